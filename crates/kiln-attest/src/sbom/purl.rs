//! Package URLs. Source: package-url/purl-spec, and its definitions of the types `pypi`, `deb`, `apk` and `generic`.

use std::fmt::Write;

use crate::ingredients::{Distribution, System, SystemPackage, normal};

/// A distribution of Python.
pub(crate) fn pypi(distribution: &Distribution) -> String {
    build("pypi", None, &normal(&distribution.name), &distribution.version, &[])
}

/// A package of a system.
pub(crate) fn system(package: &SystemPackage, system: &System) -> String {
    let id = system.id.as_deref().unwrap_or(if package.kind == "deb" { "debian" } else { "alpine" });
    let distro = system.version.as_ref().map(|version| format!("{id}-{version}"));
    let qualifiers = [("arch", package.architecture.as_deref()), ("distro", distro.as_deref())];
    build(&package.kind, Some(id), &package.name.to_lowercase(), &package.version, &qualifiers)
}

/// What no package manager knows.
pub(crate) fn generic(name: &str, version: &str) -> String {
    build("generic", None, name, version, &[])
}

fn build(
    kind: &str,
    namespace: Option<&str>,
    name: &str,
    version: &str,
    qualifiers: &[(&str, Option<&str>)],
) -> String {
    let mut purl = format!("pkg:{kind}/");
    if let Some(namespace) = namespace {
        purl += &encoded(namespace);
        purl.push('/');
    }
    purl += &encoded(name);
    if !version.is_empty() {
        purl.push('@');
        purl += &encoded(version);
    }
    let mut separator = '?';
    for (key, value) in qualifiers {
        if let Some(value) = value {
            let _ = write!(purl, "{separator}{key}={}", encoded(value));
            separator = '&';
        }
    }
    purl
}

/// Percent-encoded, but for what the specification leaves as it is.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls() {
        let lxml = Distribution { name: "Foo_Bar.x".into(), version: "5.3+local".into(), ..Distribution::default() };
        assert_eq!(pypi(&lxml), "pkg:pypi/foo-bar-x@5.3%2Blocal");
        let debian = System { id: Some("debian".into()), version: Some("12".into()), name: None };
        let package = SystemPackage {
            kind: "deb".into(),
            name: "libstdc++6".into(),
            version: "1:12.2.0-14+deb12u1".into(),
            architecture: Some("amd64".into()),
            ..SystemPackage::default()
        };
        let purl = system(&package, &debian);
        assert_eq!(purl, "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12");
        let package = SystemPackage { kind: "apk".into(), name: "zlib".into(), version: "1-r1".into(), ..package };
        assert_eq!(system(&package, &System::default()), "pkg:apk/alpine/zlib@1-r1?arch=amd64");
        assert_eq!(generic("my program", ""), "pkg:generic/my%20program");
    }
}
