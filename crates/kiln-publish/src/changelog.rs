//! A version's section of a changelog. Source: <https://keepachangelog.com/en/1.1.0/>.
//!
//! Headings of versions are read more freely than that page has them: `## [1.2.3] - 2026-01-31`, `## 1.2.3`, `# v1.2.3 (date)`,
//! `## Version 1.2.3`, and a line underlined with `---` or `===`.

/// The part of a changelog below a heading.
struct Section<'a> {
    level: usize,
    title: &'a str,
    lines: Vec<&'a str>,
}

/// What the changelog says of a version, as Markdown without the heading; definitions of links that it uses come along.
/// Nothing if there is no such section, or nothing in it.
pub fn section(text: &str, version: &str) -> Option<String> {
    find(text, |title| names_version(title, version))
}

/// What the changelog says of what is not released yet.
pub fn unreleased(text: &str) -> Option<String> {
    find(text, |title| title.trim_start_matches('[').to_ascii_lowercase().starts_with("unreleased"))
}

fn find(text: &str, is_it: impl Fn(&str) -> bool) -> Option<String> {
    let sections = sections(text);
    let at = sections.iter().position(|section| section.level > 0 && is_it(section.title))?;
    let level = sections[at].level;
    let mut lines: Vec<String> = sections[at].lines.iter().map(|line| (*line).to_owned()).collect();
    for section in sections[at + 1..].iter().take_while(|section| section.level > level) {
        lines.push(format!("{} {}", "#".repeat(section.level), section.title));
        lines.extend(section.lines.iter().map(|line| (*line).to_owned()));
    }
    // Definitions of links end the file, and would belong to its last section.
    let body =
        lines.iter().map(String::as_str).filter(|line| definition(line).is_none()).collect::<Vec<_>>().join("\n");
    let body = body.trim();
    if body.is_empty() {
        return None;
    }
    let used = |name: &str| body.to_ascii_lowercase().contains(&format!("[{}]", name.to_ascii_lowercase()));
    let definitions: Vec<&str> =
        text.lines().filter(|line| definition(line).is_some_and(used)).map(str::trim).collect();
    let gap = if definitions.is_empty() { "" } else { "\n\n" };
    Some(format!("{body}{gap}{}", definitions.join("\n")))
}

/// The headings of a text, with what stands below each; the first has no heading.
fn sections(text: &str) -> Vec<Section<'_>> {
    let mut sections = vec![Section { level: 0, title: "", lines: Vec::new() }];
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        let current = sections.last_mut().expect("there is one from the start");
        let mark = ["```", "~~~"].into_iter().find(|mark| line.trim_start().starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            _ => {}
        }
        if fence.is_some() || mark.is_some() {
            current.lines.push(line);
            continue;
        }
        let hashes = line.len() - line.trim_start_matches('#').len();
        if (1..=6).contains(&hashes) && line[hashes..].starts_with([' ', '\t']) {
            let title = line[hashes..].trim().trim_end_matches('#').trim_end();
            sections.push(Section { level: hashes, title, lines: Vec::new() });
            continue;
        }
        // An underlined heading: the line before is it, if that is no end of a paragraph.
        let level = match line.trim_end() {
            rule if rule.len() >= 2 && rule.bytes().all(|b| b == b'=') => 1,
            rule if rule.len() >= 2 && rule.bytes().all(|b| b == b'-') => 2,
            _ => 0,
        };
        let alone = current.lines.len().checked_sub(2).is_none_or(|before| current.lines[before].trim().is_empty());
        match current.lines.last().copied() {
            Some(title) if level > 0 && alone && !title.trim().is_empty() => {
                current.lines.pop();
                sections.push(Section { level, title: title.trim(), lines: Vec::new() });
            }
            _ => current.lines.push(line),
        }
    }
    sections
}

fn names_version(title: &str, version: &str) -> bool {
    let title = title.trim_start_matches('[');
    let small = title.to_ascii_lowercase();
    let title = if small.starts_with("version ") { &title["version ".len()..] } else { title };
    let title = title.trim_start_matches('[');
    let is_at = |title: &str| {
        let ends =
            |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || ".+-_!".contains(c) && !c.is_whitespace());
        title.get(..version.len()).is_some_and(|start| start.eq_ignore_ascii_case(version))
            && ends(&title[version.len()..])
    };
    is_at(title) || title.strip_prefix(['v', 'V']).is_some_and(is_at)
}

/// The name of a definition of a link: `[name]: https://...`.
fn definition(line: &str) -> Option<&str> {
    let (name, target) = line.trim_start().strip_prefix('[')?.split_once("]:")?;
    (!target.trim().is_empty() && !name.starts_with('^')).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
# Changelog
All of it.

## [Unreleased]
### Added
- new things, see [docs]

## [1.2.0] - 2026-01-31
First [1.1.0] was there.

```
## [1.1.0] not a heading
```

### Fixed
- a bug

## 1.2.0rc1
- a candidate

## v1.1.0 (2025-12-24)
- older

1.0.0
-----
- oldest

[Unreleased]: https://example.org/compare
[1.1.0]: https://example.org/1.1.0
[docs]: https://example.org/docs
";

    #[test]
    fn a_version_has_its_section() {
        assert_eq!(
            section(TEXT, "1.2.0").as_deref(),
            Some(
                "First [1.1.0] was there.\n\n```\n## [1.1.0] not a heading\n```\n\n### Fixed\n- a bug\n\n\
                 [1.1.0]: https://example.org/1.1.0"
            )
        );
        assert_eq!(section(TEXT, "1.2.0rc1").as_deref(), Some("- a candidate"));
        assert_eq!(section(TEXT, "1.1.0").as_deref(), Some("- older"));
        assert_eq!(section(TEXT, "1.0.0").as_deref(), Some("- oldest"));
        assert_eq!(
            unreleased(TEXT).as_deref(),
            Some("### Added\n- new things, see [docs]\n\n[docs]: https://example.org/docs")
        );
        for version in ["1.2", "1.2.0.1", "2.0", ""] {
            assert_eq!(section(TEXT, version), None, "{version}");
        }
        assert_eq!(section("## 1.0\n\n## 0.9\n- x", "1.0"), None);
        assert_eq!(section("## Version 1.0: the first\n- x", "1.0").as_deref(), Some("- x"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in r"([#=\-\[\]v1.0 \n`:é]|## )*", version in r"[0-9é.]{0,5}") {
            let _ = (section(&text, &version), unreleased(&text));
        }
    }
}
