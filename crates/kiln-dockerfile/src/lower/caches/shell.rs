//! Reads what a shell would run, as far as that can be told without running it.
//!
//! Other than the front end's own [`crate::expand`], which follows the rules of Dockerfiles, this follows those of a
//! shell, and is content with less: what is not known (an argument made by a command, a variable that nobody set) is a
//! word that is not [`Word::sure`]. Nothing here fails, whatever the text.

use std::collections::HashMap;

use super::super::copy::join;

/// Scripts inside scripts that are followed.
const DEEPEST: usize = 8;

/// Variables: `None` is one whose value cannot be told.
pub(super) type Variables = HashMap<String, Option<String>>;

/// A word as the program gets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    /// The text; what is not known is left out.
    pub(super) text: String,
    /// Whether that is all of it.
    pub(super) sure: bool,
}

/// A program that is called.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Name and arguments; never empty.
    pub(super) words: Vec<Word>,
    /// What it sees.
    pub(super) variables: Variables,
    /// Where it runs.
    pub(super) folder: Option<String>,
    /// Files that its input and output are redirected to.
    pub(super) files: Vec<Word>,
}

impl Call {
    /// The program without its folder; nothing if it is not known.
    pub(super) fn name(&self) -> &str {
        let first = &self.words[0];
        if first.sure { first.text.rsplit('/').next().unwrap_or_default() } else { "" }
    }

    /// Whether a variable is set. An empty one counts as unset, as it does for the tools.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.variables.get(name).is_some_and(|value| value.as_deref() != Some(""))
    }

    /// The value of a variable, if it is set and known.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name)?.as_deref().filter(|value| !value.is_empty())
    }
}

/// The calls of a command, given as its arguments.
pub(super) fn calls(argv: &[String], variables: Variables, folder: &str) -> Vec<Call> {
    let mut reader = Reader { calls: Vec::new(), variables, folder: Some(folder.to_owned()), depth: 0 };
    let words = argv.iter().map(|text| Word { text: text.clone(), sure: true }).collect();
    reader.call(words, Vec::new(), &[]);
    reader.calls
}

/// The calls of a script.
pub(super) fn script(text: &str, variables: Variables, folder: &str) -> Vec<Call> {
    let mut reader = Reader { calls: Vec::new(), variables, folder: Some(folder.to_owned()), depth: 0 };
    reader.script(text);
    reader.calls
}

struct Reader {
    calls: Vec<Call>,
    variables: Variables,
    folder: Option<String>,
    depth: usize,
}

/// What stands between operators.
#[derive(Default)]
struct Line {
    words: Vec<Word>,
    /// Whether the first character of each word was quoted: then it is no keyword and no assignment.
    quoted: Vec<bool>,
    files: Vec<Word>,
}

impl Reader {
    fn script(&mut self, text: &str) {
        if self.depth >= DEEPEST {
            return;
        }
        self.depth += 1;
        let chars: Vec<char> = text.chars().collect();
        let mut at = 0;
        let mut line = Line::default();
        // Here-documents that begin behind the end of this line: the word that ends each, and whether tabs are dropped.
        let mut documents: Vec<(String, bool)> = Vec::new();
        let mut scopes: Vec<(Variables, Option<String>)> = Vec::new();
        while at < chars.len() {
            match chars[at] {
                ' ' | '\t' | '\r' => at += 1,
                '\\' if chars.get(at + 1) == Some(&'\n') => at += 2,
                '#' => at = end_of_line(&chars, at),
                '\n' => {
                    at += 1;
                    let mut texts = Vec::new();
                    for (word, drops_tabs) in documents.drain(..) {
                        let (text, after) = document(&chars, at, &word, drops_tabs);
                        texts.push(text);
                        at = after;
                    }
                    self.end(std::mem::take(&mut line), &texts);
                }
                '(' => {
                    self.end(std::mem::take(&mut line), &[]);
                    scopes.push((self.variables.clone(), self.folder.clone()));
                    at += 1;
                }
                ')' => {
                    self.end(std::mem::take(&mut line), &[]);
                    if let Some((variables, folder)) = scopes.pop() {
                        (self.variables, self.folder) = (variables, folder);
                    }
                    at += 1;
                }
                ';' | '&' | '|' => {
                    self.end(std::mem::take(&mut line), &[]);
                    at += 1;
                }
                '<' | '>' => at = self.redirection(&chars, at, &mut line, &mut documents),
                _ => {
                    let is_quoted = matches!(chars[at], '\'' | '"' | '\\');
                    let (word, after) = self.word(&chars, at);
                    // The number in front of a redirection is no argument.
                    let is_number = !word.text.is_empty() && word.text.chars().all(|c| c.is_ascii_digit());
                    if !(is_number && matches!(chars.get(after), Some('<' | '>'))) {
                        line.words.push(word);
                        line.quoted.push(is_quoted);
                    }
                    at = after.max(at + 1);
                }
            }
        }
        self.end(line, &[]);
        self.depth -= 1;
    }

    fn redirection(
        &mut self,
        chars: &[char],
        mut at: usize,
        line: &mut Line,
        documents: &mut Vec<(String, bool)>,
    ) -> usize {
        let start = at;
        while matches!(chars.get(at), Some('<' | '>' | '&')) {
            at += 1;
        }
        let operator: String = chars[start..at].iter().collect();
        let drops_tabs = operator == "<<" && chars.get(at) == Some(&'-');
        at += usize::from(drops_tabs);
        while matches!(chars.get(at), Some(' ' | '\t')) {
            at += 1;
        }
        let (word, after) = self.word(chars, at);
        match operator.as_str() {
            "<<" => documents.push((word.text, drops_tabs)),
            "<<<" | ">&" | "<&" => {}
            _ => line.files.push(word),
        }
        after.max(at)
    }

    /// A word, expanded, and where it ends. An operator that stands here gives an empty word.
    fn word(&mut self, chars: &[char], start: usize) -> (Word, usize) {
        let mut word = Word { text: String::new(), sure: true };
        let mut at = start;
        let mut quoted = false;
        while let Some(&c) = chars.get(at) {
            match c {
                '\'' if !quoted => {
                    at += 1;
                    while let Some(&c) = chars.get(at).filter(|c| **c != '\'') {
                        word.text.push(c);
                        at += 1;
                    }
                    at += 1;
                }
                '"' => {
                    quoted = !quoted;
                    at += 1;
                }
                '\\' => {
                    match chars.get(at + 1) {
                        Some('\n') | None => {}
                        Some(&next) => {
                            if quoted && !matches!(next, '$' | '`' | '"' | '\\') {
                                word.text.push('\\');
                            }
                            word.text.push(next);
                        }
                    }
                    at += 2;
                }
                '$' => at = self.dollar(chars, at, &mut word),
                '`' => {
                    let end = chars[at + 1..].iter().position(|c| *c == '`').map_or(chars.len(), |n| at + 1 + n);
                    self.inner(&chars[at + 1..end]);
                    word.sure = false;
                    at = end + 1;
                }
                '~' if !quoted
                    && at == start
                    && matches!(chars.get(at + 1), None | Some('/' | ' ' | '\t' | '\n' | ';' | '&' | '|' | ')')) =>
                {
                    self.append(&mut word, "HOME");
                    at += 1;
                }
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '(' | ')' | '<' | '>' if !quoted => break,
                c => {
                    word.text.push(c);
                    at += 1;
                }
            }
        }
        (word, at.min(chars.len()))
    }

    /// What follows a `$`.
    fn dollar(&mut self, chars: &[char], at: usize, word: &mut Word) -> usize {
        let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        match chars.get(at + 1) {
            Some('(') => {
                let end = closing(chars, at + 1);
                // Arithmetic runs nothing.
                if chars.get(at + 2) != Some(&'(') {
                    self.inner(&chars[(at + 2).min(end)..end]);
                }
                word.sure = false;
                end + 1
            }
            Some('{') => {
                let end = chars[at..].iter().position(|c| *c == '}').map_or(chars.len(), |n| at + n);
                let inside: String = chars[(at + 2).min(end)..end].iter().collect();
                let name_ends = inside.find(|c: char| !is_name(&c)).unwrap_or(inside.len());
                let (name, rest) = inside.split_at(name_ends);
                match (rest, rest.trim_start_matches(':').strip_prefix('-'), self.variables.get(name)) {
                    ("", ..) => self.append(word, name),
                    (_, Some(default), None) if !default.contains(['$', '`']) => word.text.push_str(default),
                    (_, Some(_), Some(Some(value))) if !value.is_empty() => word.text.push_str(value),
                    _ => word.sure = false,
                }
                end + 1
            }
            Some(c) if c.is_ascii_alphabetic() || *c == '_' => {
                let name: String = chars[at + 1..].iter().take_while(|c| is_name(c)).collect();
                self.append(word, &name);
                at + 1 + name.len()
            }
            // `$1`, `$@`, `$?` and the like.
            Some(c) if c.is_ascii_digit() || "@*#?$!-".contains(*c) => {
                word.sure = false;
                at + 2
            }
            _ => {
                word.text.push('$');
                at + 1
            }
        }
    }

    fn append(&self, word: &mut Word, name: &str) {
        match self.variables.get(name) {
            Some(Some(value)) => word.text.push_str(value),
            _ => word.sure = false,
        }
    }

    /// A script inside a word: it runs in a shell of its own.
    fn inner(&mut self, chars: &[char]) {
        let kept = (self.variables.clone(), self.folder.clone());
        self.script(&chars.iter().collect::<String>());
        (self.variables, self.folder) = kept;
    }

    /// What stands before the end of a command. `documents` are its input.
    fn end(&mut self, line: Line, documents: &[String]) {
        let mut first = 0;
        let kept = self.variables.clone();
        let mut assigned = false;
        while let Some(word) = line.words.get(first) {
            let is_quoted = line.quoted[first];
            if !is_quoted && is_keyword(&word.text) {
                first += 1;
            } else if let Some((name, value)) = assignment(word).filter(|_| !is_quoted) {
                self.variables.insert(name, value);
                (first, assigned) = (first + 1, true);
            } else {
                break;
            }
        }
        let words: Vec<Word> = line.words.into_iter().skip(first).collect();
        match words.first().map(|word| word.text.as_str()) {
            None | Some("case") => return,
            Some("for" | "select" | "read") => {
                // A variable whose value changes.
                self.variables.extend(words.get(1).map(|word| (word.text.clone(), None)));
                return;
            }
            _ => {}
        }
        self.call(words, line.files, documents);
        // What stands before a command holds for that command only.
        if assigned {
            self.variables = kept;
        }
    }

    /// One call: builtins change what this knows, wrappers and shells are looked through.
    fn call(&mut self, words: Vec<Word>, files: Vec<Word>, documents: &[String]) {
        let Some(first) = words.first() else { return };
        let name =
            if first.sure { first.text.rsplit('/').next().unwrap_or_default().to_owned() } else { String::new() };
        match name.as_str() {
            "export" | "declare" | "local" | "readonly" | "typeset" => {
                for word in &words[1..] {
                    self.variables.extend(assignment(word));
                }
                return;
            }
            "unset" => {
                for word in &words[1..] {
                    self.variables.remove(&word.text);
                }
                return;
            }
            "cd" | "pushd" => {
                let target = words.iter().skip(1).find(|word| !word.text.starts_with('-'));
                self.folder = match (target, &self.folder) {
                    (Some(word), Some(folder)) if word.sure => Some(join(folder, &word.text)),
                    (Some(word), None) if word.sure && word.text.starts_with('/') => Some(word.text.clone()),
                    (None, _) => self.variables.get("HOME").cloned().flatten(),
                    _ => None,
                };
            }
            "eval" => return self.joined(&words[1..]),
            "sh" | "bash" | "dash" | "ash" | "ksh" | "zsh" => return self.shell(&words, documents),
            "exec" | "command" | "env" | "nice" | "nohup" | "time" | "timeout" | "xargs" | "stdbuf" | "ionice"
            | "busybox" => {
                return self.wrapped(&words[1..], files, documents);
            }
            _ => {}
        }
        let (variables, folder) = (self.variables.clone(), self.folder.clone());
        self.calls.push(Call { words, variables, folder, files });
    }

    fn joined(&mut self, words: &[Word]) {
        if words.iter().all(|word| word.sure) {
            let text: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
            self.script(&text.join(" "));
        }
    }

    /// A shell: the script after `-c`, or what it reads.
    fn shell(&mut self, words: &[Word], documents: &[String]) {
        let mut takes_script = false;
        let mut skips = false;
        for word in &words[1..] {
            if std::mem::take(&mut skips) {
                continue;
            }
            match word.text.strip_prefix(['-', '+']) {
                Some(options) if !options.is_empty() && !word.text.starts_with("--") => {
                    takes_script |= word.text.starts_with('-') && options.contains('c');
                    // `-o pipefail`
                    skips = options.ends_with('o');
                }
                Some(_) => {}
                None if takes_script => {
                    if word.sure {
                        let kept = (self.variables.clone(), self.folder.clone());
                        self.script(&word.text);
                        (self.variables, self.folder) = kept;
                    }
                    return;
                }
                // A file.
                None => return,
            }
        }
        for text in documents {
            self.inner(&text.chars().collect::<Vec<_>>());
        }
    }

    /// A program that calls the one behind it.
    fn wrapped(&mut self, words: &[Word], files: Vec<Word>, documents: &[String]) {
        let kept = self.variables.clone();
        let mut first = 0;
        while let Some(word) = words.get(first) {
            if let Some((name, value)) = assignment(word) {
                self.variables.insert(name, value);
            } else if !word.text.starts_with(['-', '+']) && !word.text.starts_with(|c: char| c.is_ascii_digit()) {
                break;
            }
            first += 1;
        }
        if self.depth < DEEPEST {
            self.depth += 1;
            self.call(words[first..].to_vec(), files, documents);
            self.depth -= 1;
        }
        self.variables = kept;
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "if" | "then" | "elif" | "else" | "fi" | "while" | "until" | "do" | "done" | "esac" | "!" | "{" | "}"
    )
}

/// A word as an assignment.
fn assignment(word: &Word) -> Option<(String, Option<String>)> {
    let (name, value) = word.text.split_once('=')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_name.then(|| (name.to_owned(), word.sure.then(|| value.to_owned())))
}

fn end_of_line(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|c| *c == '\n').map_or(chars.len(), |n| at + n)
}

/// Where the bracket at `open` is closed; the end if it is not.
fn closing(chars: &[char], open: usize) -> usize {
    let mut depth = 0;
    let mut quote = None;
    let mut at = open;
    while at < chars.len() {
        match (chars[at], quote) {
            ('\\', None | Some('"')) => at += 1,
            (c @ ('\'' | '"'), None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('(', None) => depth += 1,
            (')', None) => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
        at += 1;
    }
    chars.len()
}

/// The text of a here-document that begins at `at`, and where the next line begins.
fn document(chars: &[char], mut at: usize, word: &str, drops_tabs: bool) -> (String, usize) {
    let mut text = String::new();
    while at < chars.len() {
        let end = end_of_line(chars, at);
        let line: String = chars[at..end].iter().collect();
        at = (end + 1).min(chars.len());
        let line = if drops_tabs { line.trim_start_matches('\t') } else { &line };
        if line == word {
            break;
        }
        text.push_str(line);
        text.push('\n');
    }
    (text, at)
}
