//! Scopes: whether builds find the caches that earlier ones left.

use super::{Check, Facts};

/// A store that is written under one scope and read under others: what is saved is never found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// File and line of the writing.
    pub(crate) place: String,
    /// The scope that is written.
    pub(crate) to: String,
    /// The scopes that are read.
    pub(crate) from: Vec<String>,
}

pub(super) fn verdicts(facts: &Facts) -> Vec<Check> {
    let settings = &facts.settings;
    let mut checks = Vec::new();
    if let Some(without) = settings.scope_without.as_ref().filter(|without| **without != settings.scope) {
        checks.push(Check::warning(
            "scope",
            format!(
                "KILN_CACHE_SCOPE says {}, the project {without}: builds with and without the variable share no caches",
                settings.scope
            ),
            "take one of them out",
        ));
    }
    for (build, _) in &facts.here.builds {
        let platform = build.report.platform;
        if let Some(last) = build.scope.as_ref().filter(|last| **last != settings.scope)
            && settings.platforms.iter().any(|settings| settings.platform == platform)
        {
            let detail = format!(
                "the last build used the scope {last}, the next one would use {} ({}): it finds none of those caches",
                settings.scope, settings.scope_from
            );
            let fix = format!("set `[cache] scope = \"{last}\"`, or leave it: the next build fills new ones");
            checks.push(Check::warning("scope", detail, fix).on(platform));
        }
    }
    for Mismatch { place, to, from } in &facts.here.mismatches {
        checks.push(Check::warning(
            "scope",
            format!("{place}: cache-to has the scope {to}, cache-from {}: what is saved is not found", from.join(", ")),
            "write the same scope in both",
        ));
    }
    if checks.is_empty() {
        let detail = format!("{} ({}); each platform has volumes of its own", settings.scope, settings.scope_from);
        checks.push(Check::ok("scope", detail));
    }
    checks
}

/// Whether a cache is read or written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    From,
    To,
}

/// Scopes that do not match in a workflow, a script or a bake file. It is read as words, so that it can be of any format:
/// what follows `cache-from` or `cache-to` belongs to that, up to a line that tells of something else.
pub(crate) fn mismatches(file: &str, text: &str) -> Vec<Mismatch> {
    let mut found = Vec::new();
    let (mut from, mut to): (Vec<String>, Vec<(usize, String)>) = (Vec::new(), Vec::new());
    let mut way = None;
    // A new `cache-from` after a `cache-to`, or the reverse order after both, begins another build.
    let close = |from: &mut Vec<String>, to: &mut Vec<(usize, String)>, found: &mut Vec<Mismatch>| {
        for (line, scope) in to.drain(..) {
            if !from.is_empty() && !from.contains(&scope) {
                found.push(Mismatch { place: format!("{file}:{line}"), to: scope, from: from.clone() });
            }
        }
        from.clear();
    };
    for (index, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or_default();
        if line.trim_start().starts_with('#') {
            continue;
        }
        let (words, mut is_told) = (words(line), false);
        for word in words {
            let next = match word.as_str() {
                "cache-from" | "cache_from" => Some(Way::From),
                "cache-to" | "cache_to" => Some(Way::To),
                _ => None,
            };
            if let Some(next) = next {
                is_told = true;
                // The same way again after the other one: the next build's.
                let is_next = match next {
                    Way::From => way != Some(Way::From) && !from.is_empty(),
                    Way::To => way != Some(Way::To) && !to.is_empty(),
                };
                if is_next {
                    close(&mut from, &mut to, &mut found);
                }
                way = Some(next);
            } else if let (Some(scope), Some(way)) = (word.strip_prefix("scope="), way) {
                is_told = true;
                match way {
                    Way::From => from.push(scope.to_owned()),
                    Way::To => to.push((index + 1, scope.to_owned())),
                }
            } else if word.starts_with("type=") {
                is_told = true;
            }
        }
        if !is_told && line.contains([':', '=']) && way.is_some() {
            // Something else is told; what was said of this build stays.
            way = None;
        }
    }
    close(&mut from, &mut to, &mut found);
    found
}

/// The words of a line, where expressions such as `${{ matrix.arch }}` are part of one.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut depth) = (Vec::new(), String::new(), 0_usize);
    for c in line.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let parts = depth == 0 && (c.is_whitespace() || ",:\"'[]".contains(c));
        let is_key = matches!(word.trim_start_matches('-'), "cache-from" | "cache-to" | "cache_from" | "cache_to");
        if parts || (is_key && c == '=') {
            words.push(std::mem::take(&mut word));
        } else {
            word.push(c);
        }
    }
    words.push(word);
    let clean = |word: String| word.trim_start_matches('-').to_owned();
    words.into_iter().map(clean).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guides_workflow_matches() {
        let text = "      - uses: docker/build-push-action@v5\n        with:\n          cache-from: type=gha,scope=build-${{ \
                    matrix.arch }}\n          cache-to: type=gha,mode=max,scope=build-${{ matrix.arch }}\n          \
                    outputs: type=local,dest=.\n";
        assert_eq!(mismatches("ci.yml", text), []);
    }

    #[test]
    fn different_scopes_are_found_with_their_line() {
        let text =
            "with:\n  cache-from: type=gha,scope=build-${{ matrix.arch }}\n  cache-to: type=gha,mode=max,scope=build\n";
        let expected = Mismatch {
            place: "ci.yml:3".to_owned(),
            to: "build".to_owned(),
            from: vec!["build-${{ matrix.arch }}".to_owned()],
        };
        assert_eq!(mismatches("ci.yml", text), [expected]);
        let script = "docker buildx build --cache-from=type=gha,scope=a --cache-to type=gha,scope=b,mode=max .\n";
        assert_eq!(mismatches("x.sh", script).len(), 1);
        let bake = "cache-from = [\"type=gha,scope=a\"]\ncache-to = [\"type=gha,scope=b\"]\n";
        assert_eq!(mismatches("docker-bake.hcl", bake)[0].to, "b");
    }

    #[test]
    fn several_builds_of_a_file_are_apart_and_one_may_read_many() {
        let text = "cache-from: |\n  type=gha,scope=a\n  type=gha,scope=main\ncache-to: type=gha,scope=a\npush: true\n\
                    cache-from: type=gha,scope=b\ncache-to: type=gha,scope=b\n";
        assert_eq!(mismatches("ci.yml", text), []);
        let reversed = "cache-to: type=gha,scope=a\ncache-from: type=gha,scope=a\ntags: x\ncache-to: type=gha,scope=b\n\
                        cache-from: type=gha,scope=c\n";
        assert_eq!(mismatches("ci.yml", reversed).len(), 1);
        // One way alone says nothing, and comments are none.
        assert_eq!(mismatches("ci.yml", "cache-to: type=gha,scope=a\n# cache-from: type=gha,scope=b\n"), []);
        assert_eq!(mismatches("ci.yml", "scope=a\ncache-from: type=gha\nenv: scope=b\n"), []);
    }
}
