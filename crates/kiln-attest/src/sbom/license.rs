//! Licences as packages name them, made into what the formats can say: an expression of SPDX, a name, or nothing.

use crate::ingredients::Distribution;

/// A licence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum License {
    /// One licence of SPDX's list, by its identifier.
    Id(String),
    /// An expression of several.
    Expression(String),
    /// Other words.
    Named(String),
}

/// Classifiers that mean one licence of SPDX's list. Those that leave a choice (`BSD License`) stay words.
const CLASSIFIERS: [(&str, &str); 16] = [
    ("Academic Free License (AFL)", "AFL-3.0"),
    ("Apache Software License", "Apache-2.0"),
    ("Boost Software License 1.0 (BSL-1.0)", "BSL-1.0"),
    ("GNU Affero General Public License v3", "AGPL-3.0-only"),
    ("GNU Affero General Public License v3 or later (AGPLv3+)", "AGPL-3.0-or-later"),
    ("GNU General Public License v2 (GPLv2)", "GPL-2.0-only"),
    ("GNU General Public License v2 or later (GPLv2+)", "GPL-2.0-or-later"),
    ("GNU General Public License v3 (GPLv3)", "GPL-3.0-only"),
    ("GNU General Public License v3 or later (GPLv3+)", "GPL-3.0-or-later"),
    ("GNU Lesser General Public License v3 (LGPLv3)", "LGPL-3.0-only"),
    ("GNU Lesser General Public License v3 or later (LGPLv3+)", "LGPL-3.0-or-later"),
    ("ISC License (ISCL)", "ISC"),
    ("MIT License", "MIT"),
    ("MIT No Attribution License (MIT-0)", "MIT-0"),
    ("Mozilla Public License 2.0 (MPL 2.0)", "MPL-2.0"),
    ("The Unlicense (Unlicense)", "Unlicense"),
];

impl License {
    /// What a text means; nothing if it is empty or says so itself.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.eq_ignore_ascii_case("unknown") {
            return None;
        }
        if let Some(id) = spdx::license_id(text) {
            return Some(Self::Id(id.name.to_owned()));
        }
        Some(match spdx::Expression::parse(text) {
            // What refers to other documents means nothing without them.
            Ok(_) if !text.contains("Ref-") => Self::Expression(text.to_owned()),
            _ => Self::Named(text.to_owned()),
        })
    }

    /// What a distribution says: its expression, else its licence, else its classifiers.
    pub(super) fn of_distribution(distribution: &Distribution) -> Option<Self> {
        let said = [&distribution.license_expression, &distribution.license];
        let mut named = None;
        for license in said.into_iter().flatten().filter_map(|text| Self::of_text(text)) {
            match license {
                Self::Named(_) => named = named.or(Some(license)),
                exact => return Some(exact),
            }
        }
        let classified = |classifier: &String| classifier.rsplit(" :: ").next().map(str::to_owned);
        let words: Vec<String> = distribution.classifiers.iter().filter_map(classified).collect();
        let id = |words: &String| CLASSIFIERS.iter().find(|(known, _)| known == words).map(|(_, id)| *id);
        match words.as_slice() {
            // Of several nobody says whether all count or one of them.
            [one] if id(one).is_some() => id(one).map(|id| Self::Id(id.to_owned())),
            [] => named,
            several => named.or_else(|| Some(Self::Named(several.join(", ")))),
        }
    }

    /// As an expression of SPDX, if it is one.
    pub(super) fn expression(&self) -> Option<&str> {
        match self {
            Self::Id(text) | Self::Expression(text) => Some(text),
            Self::Named(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(expression: &str, license: &str, classifiers: &[&str]) -> Option<License> {
        License::of_distribution(&Distribution {
            license_expression: Some(expression.into()),
            license: Some(license.into()),
            classifiers: classifiers.iter().map(|c| format!("License :: OSI Approved :: {c}")).collect(),
            ..Distribution::default()
        })
    }

    #[test]
    fn what_is_exact_counts_most() {
        let id = |id: &str| Some(License::Id(id.into()));
        let named = |name: &str| Some(License::Named(name.into()));
        assert_eq!(of("MIT", "whatever", &["Apache Software License"]), id("MIT"));
        let both = "Apache-2.0 OR BSD-3-Clause";
        assert_eq!(of(both, "", &[]), Some(License::Expression(both.into())));
        assert_eq!(of("", "BSD-3-Clause", &["BSD License"]), id("BSD-3-Clause"));
        assert_eq!(of("", "The MIT License", &["MIT License"]), id("MIT"));
        assert_eq!(of("", "BSD", &["BSD License"]), named("BSD"));
        assert_eq!(of("", "", &["BSD License"]), named("BSD License"));
        assert_eq!(
            of("", "", &["MIT License", "Apache Software License"]),
            named("MIT License, Apache Software License")
        );
        assert_eq!(of("", "UNKNOWN", &[]), None);
        assert_eq!(of("LicenseRef-Mine", "", &[]), named("LicenseRef-Mine"));
    }

    #[test]
    fn all_classifiers_name_licenses_of_the_list() {
        for (_, id) in CLASSIFIERS {
            assert!(spdx::license_id(id).is_some(), "{id}");
        }
    }
}
