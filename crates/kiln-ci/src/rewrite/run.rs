//! `run:` steps: a container that calls Nuitka becomes the action, and commands of buildx become kiln's.

use std::fmt::Write as _;
use std::ops::Range;

use super::{MARK, Rewriter, USES};
use crate::container::containers;
use crate::plan::{How, buildx, dockerfile_of};
use crate::program::program;
use crate::recipe;
use crate::shell::{Command, commands};
use crate::workflow::{Job, Step};

impl Rewriter<'_> {
    /// A step that runs containers with Nuitka in them.
    pub(super) fn container(&mut self, job: &Job<'_>, step: &Step<'_>) {
        let script = step.text("run").unwrap_or_default();
        let at = step.node.span.start;
        let builds = self.builds(job.id, step.number);
        let (Some(lines), Some(region)) = (self.lines_of(step), region(script)) else {
            let why = "the container stands amid other commands of one line: put it in a step of its own first";
            self.comment(step, &format!("not carried over: {why}"));
            self.note(at, step.label(), why);
            return;
        };
        self.changed = true;
        let (before, after) = (script[..region.start].trim_end(), script[region.end..].trim());
        let dash = self.indent(lines.start).to_owned();
        let keys = format!("{dash}  ");

        let mut lost: Vec<(String, &'static str)> = Vec::new();
        for build in &builds {
            let How::Program(program) = &build.how else { continue };
            for item in recipe::lost(program) {
                if !lost.contains(&item) {
                    lost.push(item);
                }
            }
        }
        let mut text = String::new();
        if is_more(before) {
            text.push_str(&self.rest(step, &dash, before, "before"));
        }
        for (what, why) in lost {
            let _ = writeln!(text, "{dash}{MARK}not carried over: {what}: {why}");
            self.note(at, what, why);
        }
        text.push_str(&self.fields(step, &dash, &["run", "shell", "working-directory"], None));
        let _ = write!(text, "{keys}uses: {USES}\n{keys}with:\n");
        if let Some(folder) = step.text("working-directory") {
            let _ = writeln!(text, "{keys}  context: {folder}");
        }
        let mut inputs: Vec<(&str, String)> = Vec::new();
        let written = written_platform(&script[region]);
        let platforms = written.unwrap_or_else(|| {
            let mut all: Vec<&str> = Vec::new();
            for build in &builds {
                if !all.contains(&build.platform.as_str()) {
                    all.push(&build.platform);
                }
            }
            all.join(",")
        });
        inputs.push(("platforms", platforms));
        let folder = builds.iter().find_map(|build| match &build.how {
            How::Program(program) => program.options.folder.clone(),
            _ => None,
        });
        inputs.push(("outputs", format!("type=local,dest={}", folder.unwrap_or_else(|| ".".to_owned()))));
        inputs.push(("cache-from", "type=gha".to_owned()));
        inputs.push(("cache-to", "type=gha,mode=max".to_owned()));
        for (name, value) in inputs {
            let _ = writeln!(text, "{keys}  {name}: {value}");
        }
        if is_more(after) {
            text.push_str(&self.rest(step, &dash, after, "after"));
        }
        self.replace(lines, text);
    }

    /// The lines of a step without those of some keys, from the dash on; with another name if one is given.
    fn fields(&self, step: &Step<'_>, dash: &str, without: &[&str], name: Option<&str>) -> String {
        let mut text = String::new();
        for (key, value) in step.node.pairs() {
            let word = key.text().unwrap_or_default();
            if without.contains(&word) {
                continue;
            }
            let lines = self.line_start(key.span.start)..self.line_end(value.span.end.max(key.span.end));
            let old = &self.text[lines.clone()];
            // The first key stands behind the dash.
            let old = format!("{}{}", " ".repeat(key.span.start - lines.start), &old[key.span.start - lines.start..]);
            let old = match name {
                Some(name) if word == "name" => format!("{}name: {name}\n", " ".repeat(key.span.start - lines.start)),
                _ => old,
            };
            text.push_str(&old);
            if !text.ends_with('\n') {
                text.push('\n');
            }
        }
        let blanks = format!("{dash}  ");
        match text.strip_prefix(&blanks) {
            Some(rest) => format!("{dash}- {rest}"),
            None if text.is_empty() => format!("{dash}- name: {}\n", "Build with kiln"),
            None => format!("{dash}-{}", text.get(dash.len() + 1..).unwrap_or_default()),
        }
    }

    /// A step for the commands that stood around the container.
    fn rest(&self, step: &Step<'_>, dash: &str, script: &str, place: &str) -> String {
        let name = step
            .text("name")
            .map_or_else(|| format!("Commands {place} the build"), |name| format!("{name} ({place} the build)"));
        let fields = self.fields(step, dash, &["run", "id"], Some(&name));
        let lines: String = script
            .lines()
            .map(|line| if line.trim().is_empty() { "\n".to_owned() } else { format!("{dash}    {line}\n") })
            .collect();
        let fields = if step.text("name").is_none() && fields.contains("Build with kiln") {
            format!("{dash}- name: {name}\n")
        } else {
            fields
        };
        format!("{fields}{dash}  run: |\n{lines}")
    }

    /// A step that calls buildx.
    pub(super) fn command(&mut self, step: &Step<'_>) {
        let Some(run) = step.node.get("run") else { return };
        let raw = &self.text[run.span.clone()];
        let mut found = false;
        for (range, replacement) in edits(raw) {
            found = true;
            self.replace(run.span.start + range.start..run.span.start + range.end, replacement);
        }
        self.changed |= found;
        if raw.contains("type=gha") {
            let why =
                "`run:` steps cannot see the cache of GitHub Actions: build with the action, or use another store";
            self.comment(step, why);
            self.note(step.node.span.start, "type=gha", why);
        }
    }
}

/// What is to be changed in a script that calls buildx.
pub(crate) fn edits(script: &str) -> Vec<(Range<usize>, String)> {
    let mut edits = Vec::new();
    for mut command in commands(script) {
        while command
            .words
            .first()
            .is_some_and(|word| matches!(word.text().as_str(), "do" | "then" | "else" | "{" | "if" | "|" | "!"))
        {
            command.words.remove(0);
        }
        let words = command.texts();
        let plain: Vec<&str> = words.iter().map(String::as_str).collect();
        if let ["docker", "buildx", "create" | "use" | "inspect", ..] = plain.as_slice() {
            // kiln needs no builder. A command is left, because what follows it may depend on its end.
            let span = command.words[0].span.start..command.words[plain.len() - 1].span.end;
            edits.push((span, "true".to_owned()));
            continue;
        }
        let (Some((length, found)), false) = (buildx(&words), plain.first() == Some(&"kiln")) else { continue };
        let span = command.words[0].span.start..command.words[length - 1].span.end;
        let has_file = words.iter().any(|word| word == "-f" || word.starts_with("--file"));
        let file = if has_file || found[0] != "build" { None } else { dockerfile_of(&words) };
        let file = file.map(|file| format!(" -f {file}")).unwrap_or_default();
        edits.push((span, format!("kiln {}{file}", found[0])));
        let builder = words.iter().position(|word| word == "--builder" || word.starts_with("--builder="));
        if let Some(at) = builder {
            let last = if words[at] == "--builder" { (at + 1).min(words.len() - 1) } else { at };
            edits.push((command.words[at].span.start..command.words[last].span.end, String::new()));
        }
    }
    edits
}

/// Where the containers with Nuitka stand in a script, with the loops around them: whole lines. Nothing if other commands
/// stand on these lines.
pub(crate) fn region(script: &str) -> Option<Range<usize>> {
    let mut loops: Vec<usize> = Vec::new();
    let mut region: Option<Range<usize>> = None;
    let mut is_open = false;
    for command in commands(script) {
        let first = command.words[0].text();
        let widen = |region: &mut Option<Range<usize>>, span: Range<usize>| {
            let old = region.take().unwrap_or(span.clone());
            *region = Some(old.start.min(span.start)..old.end.max(span.end));
        };
        if first == "for" {
            loops.push(command.span.start);
        } else if first == "done" {
            if is_open && loops.len() == 1 {
                widen(&mut region, command.span.clone());
                is_open = false;
            }
            loops.pop();
        } else if is_nuitka(script, &command) {
            let start = loops.first().copied().unwrap_or(command.span.start);
            is_open = !loops.is_empty();
            widen(&mut region, start..command.span.end);
        }
    }
    let region = region?;
    let start = script[..region.start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = script[region.end..].find('\n').map_or(script.len(), |newline| region.end + newline + 1);
    let is_alone = script[start..region.start].trim().is_empty()
        && script[region.end..end].split('#').next().unwrap_or_default().trim().is_empty();
    is_alone.then_some(start..end)
}

fn is_nuitka(script: &str, command: &Command) -> bool {
    let mut words = command.words.as_slice();
    while let [first, rest @ ..] = words
        && matches!(first.text().as_str(), "do" | "then" | "else")
    {
        words = rest;
    }
    let (Some(first), Some(last)) = (words.first(), words.last()) else { return false };
    containers(&script[first.span.start..last.span.end]).iter().any(|(_, container)| program(container).is_some())
}

/// The platform as the script says it, if it is one text or an expression of GitHub's.
fn written_platform(script: &str) -> Option<String> {
    let mut all: Vec<String> = containers(script).into_iter().filter_map(|(_, container)| container.platform).collect();
    all.dedup();
    match all.as_slice() {
        [one] if !one.replace("${{", "").contains('$') => Some(one.clone()),
        _ => None,
    }
}

/// Whether commands do more than to set the shell up.
fn is_more(script: &str) -> bool {
    commands(script).iter().any(|command| command.words[0].text() != "set")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_buildx_become_kilns() {
        let script = "docker buildx create --use\ndocker buildx build --builder x \\\n  --platform linux/arm64 . && docker buildx bake\nkiln build\n";
        let mut text = script.to_owned();
        for (range, new) in edits(script).into_iter().rev() {
            text.replace_range(range, &new);
        }
        assert_eq!(text, "true\nkiln build -f Dockerfile  \\\n  --platform linux/arm64 . && kiln bake\nkiln build\n");
    }

    #[test]
    fn a_loop_belongs_to_its_containers() {
        let script = "set -e\nfor p in a b; do\n  docker run --platform $p alpine sh -c 'nuitka a.py'\ndone\nls\n";
        let found = region(script).unwrap();
        assert_eq!(&script[found], "for p in a b; do\n  docker run --platform $p alpine sh -c 'nuitka a.py'\ndone\n");
        assert_eq!(region("cd x && docker run alpine sh -c 'nuitka a.py'"), None);
        assert_eq!(region("docker run alpine ls"), None);
    }
}
