//! What a `run:` step writes to `GITHUB_OUTPUT` and `GITHUB_ENV`, computed for scripts that only decide by what is known:
//! `if`, `case`, assignments and `echo`. For anything else the answer is that it is not known.

use std::collections::BTreeMap;

use crate::shell::{Token, Word, tokens};

/// What a script writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) environment: BTreeMap<String, String>,
}

/// Runs a script in mind. Nothing if it decides by something unknown.
pub(crate) fn written(script: &str, environment: &BTreeMap<String, String>) -> Option<Written> {
    let variables = environment.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
    let mut shell = Shell { tokens: tokens(script), at: 0, variables, written: Written::default() };
    while shell.at < shell.tokens.len() {
        let before = shell.at;
        shell.block(true)?;
        if shell.at == before {
            // A word that ends what was not begun.
            shell.at += 1;
        }
    }
    Some(shell.written)
}

struct Shell {
    tokens: Vec<Token>,
    at: usize,
    /// What is set; `None` to what cannot be known.
    variables: BTreeMap<String, Option<String>>,
    written: Written,
}

/// Words that end a block.
const ENDS: [&str; 6] = ["then", "elif", "else", "fi", "esac", "do"];

impl Shell {
    fn word(&self) -> Option<String> {
        match self.tokens.get(self.at) {
            Some(Token::Word(word)) => Some(word.text()),
            _ => None,
        }
    }

    fn operator(&self) -> Option<&'static str> {
        match self.tokens.get(self.at) {
            Some(Token::Operator(sign, _)) => Some(sign),
            _ => None,
        }
    }

    fn skip_separators(&mut self) {
        while matches!(self.operator(), Some("\n" | ";" | "&")) {
            self.at += 1;
        }
    }

    /// Commands up to a word that ends a block, or `;;`. The status of the last one.
    fn block(&mut self, active: bool) -> Option<bool> {
        let mut status = true;
        loop {
            self.skip_separators();
            match self.word() {
                Some(word) if ENDS.contains(&word.as_str()) => return Some(status),
                None if self.operator().is_none() || self.operator() == Some(";;") => return Some(status),
                _ => status = self.list(active)?,
            }
        }
    }

    /// Commands joined by `&&` and `||`.
    fn list(&mut self, active: bool) -> Option<bool> {
        let mut status = self.command(active)?;
        while let Some(sign @ ("&&" | "||" | "|")) = self.operator() {
            self.at += 1;
            while self.operator() == Some("\n") {
                self.at += 1;
            }
            let runs = active && (sign == "|" || (sign == "&&") == status);
            let next = self.command(runs)?;
            if runs {
                status = next;
            }
        }
        Some(status)
    }

    fn command(&mut self, active: bool) -> Option<bool> {
        match self.word().as_deref() {
            Some("if") => self.condition(active),
            Some("case") => self.case(active),
            Some("!") => {
                self.at += 1;
                self.command(active).map(|status| !status)
            }
            Some("for" | "while" | "until" | "function") if active => None,
            _ => self.simple(active),
        }
    }

    fn condition(&mut self, active: bool) -> Option<bool> {
        let mut done = false;
        loop {
            self.at += 1;
            let holds = self.block(active && !done)? && active && !done;
            self.expect("then")?;
            self.block(holds)?;
            done |= holds;
            match self.word()?.as_str() {
                "elif" => {}
                "else" => {
                    self.at += 1;
                    self.block(active && !done)?;
                    return self.expect("fi");
                }
                "fi" => return self.expect("fi"),
                _ => return None,
            }
        }
    }

    fn expect(&mut self, word: &str) -> Option<bool> {
        (self.word().as_deref() == Some(word)).then_some(())?;
        self.at += 1;
        Some(true)
    }

    fn case(&mut self, active: bool) -> Option<bool> {
        self.at += 1;
        let Some(Token::Word(subject)) = self.tokens.get(self.at).cloned() else { return None };
        let subject = if active { self.expand(&subject)? } else { String::new() };
        self.at += 1;
        self.skip_separators();
        self.expect("in")?;
        let mut done = !active;
        loop {
            self.skip_separators();
            if self.word().as_deref() == Some("esac") {
                return self.expect("esac");
            }
            let mut fits = false;
            loop {
                match self.tokens.get(self.at)? {
                    Token::Operator("(" | "|", _) => {}
                    Token::Operator(")", _) => break,
                    Token::Word(word) => fits |= matches(&word.text(), &subject),
                    Token::Operator(..) => return None,
                }
                self.at += 1;
            }
            self.at += 1;
            self.block(fits && !done)?;
            done |= fits;
            if self.operator() == Some(";;") {
                self.at += 1;
            }
        }
    }

    fn simple(&mut self, active: bool) -> Option<bool> {
        let mut words: Vec<Word> = Vec::new();
        let mut target: Option<Word> = None;
        loop {
            match self.tokens.get(self.at).cloned() {
                Some(Token::Word(word)) => words.push(word),
                Some(Token::Operator(">" | ">>" | "<" | "<<", _)) => {
                    self.at += 1;
                    match self.tokens.get(self.at).cloned() {
                        Some(Token::Word(word)) => target = Some(word),
                        _ => continue,
                    }
                }
                Some(Token::Operator("(" | ")", _)) => {}
                _ => break,
            }
            self.at += 1;
        }
        if !active {
            return Some(true);
        }
        let texts: Vec<String> = words.iter().map(Word::text).collect();
        let first = texts.first().map_or("", String::as_str);
        match first {
            "[" | "[[" | "test" => return self.test(&words[1..]),
            "true" | ":" | "exit" => return Some(true),
            "false" => return Some(false),
            "echo" | "printf" => self.echo(&words[1..], target.as_ref()),
            _ => {
                let first = usize::from(matches!(first, "export" | "local" | "declare" | "readonly"));
                for word in &words[first..] {
                    let text = word.text();
                    let Some((name, _)) = text.split_once('=') else { break };
                    let value = self.expand(word).and_then(|text| Some(text.split_once('=')?.1.to_owned()));
                    self.variables.insert(name.to_owned(), value);
                }
            }
        }
        Some(true)
    }

    fn echo(&mut self, words: &[Word], target: Option<&Word>) {
        let line: Option<Vec<String>> = words.iter().map(|word| self.expand(word)).collect();
        let target = target.map(Word::text).unwrap_or_default();
        let Some(line) = line.map(|words| words.join(" ")) else {
            // It is written, and what is not known.
            return;
        };
        let line = line.trim_start_matches("-e ").trim_start_matches("-n ");
        if let Some(rest) = line.strip_prefix("::set-output name=") {
            if let Some((name, value)) = rest.split_once("::") {
                self.written.outputs.insert(name.to_owned(), value.to_owned());
            }
            return;
        }
        let Some((name, value)) = line.split_once('=') else { return };
        if target.contains("GITHUB_OUTPUT") {
            self.written.outputs.insert(name.to_owned(), value.to_owned());
        } else if target.contains("GITHUB_ENV") {
            self.written.environment.insert(name.to_owned(), value.to_owned());
        }
    }

    /// `[ ... ]`; nothing if it asks for something that is not known.
    fn test(&self, words: &[Word]) -> Option<bool> {
        let words: Vec<String> = words.iter().map(|word| self.expand(word)).collect::<Option<_>>()?;
        let words: Vec<&str> = words.iter().map(String::as_str).filter(|word| !matches!(*word, "]" | "]]")).collect();
        match words.as_slice() {
            ["!", rest @ ..] => Self::plain_test(rest).map(|holds| !holds),
            rest => Self::plain_test(rest),
        }
    }

    fn plain_test(words: &[&str]) -> Option<bool> {
        match words {
            [left, "=" | "==", right] => Some(matches(right, left)),
            [left, "!=", right] => Some(!matches(right, left)),
            ["-n", text] => Some(!text.is_empty()),
            ["-z", text] => Some(text.is_empty()),
            _ => None,
        }
    }

    fn expand(&self, word: &Word) -> Option<String> {
        let text = word.expand(&|name| self.variables.get(name).cloned().flatten())?;
        // An expression of GitHub's that is still there is one that nobody knows.
        (!text.contains("${{")).then_some(text)
    }
}

/// Whether a text fits a pattern with `*`.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            after.is_empty()
                || (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| matches(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(script: &str, name: &str) -> Option<String> {
        let environment = [("ARCH".to_owned(), "arm64".to_owned())].into();
        written(script, &environment)?.outputs.get(name).cloned()
    }

    #[test]
    fn decisions_by_what_is_known() {
        let case = "case \"$ARCH\" in\n  x86_64|amd64) echo \"p=linux/amd64\" >> $GITHUB_OUTPUT ;;\n  arm64)\n    \
                    P=linux/arm64\n    echo \"p=$P\" >> \"$GITHUB_OUTPUT\"\n    ;;\n  *) exit 1 ;;\nesac\n";
        assert_eq!(output(case, "p").as_deref(), Some("linux/arm64"));
        let condition = "if [ \"$ARCH\" = \"x\" ]; then\n echo \"f=1\" >> $GITHUB_OUTPUT\nelif [[ $ARCH == arm* ]]; then\n \
                         echo \"f=no\" >> $GITHUB_OUTPUT\nelse\n echo \"f=yes\" >> $GITHUB_OUTPUT\nfi";
        assert_eq!(output(condition, "f").as_deref(), Some("no"));
        let chain = "[ $ARCH = arm64 ] && L=no || L=yes\necho f=$L >> $GITHUB_OUTPUT";
        assert_eq!(output(chain, "f").as_deref(), Some("no"));
        assert_eq!(output("echo \"::set-output name=f::$ARCH\"", "f").as_deref(), Some("arm64"));
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        assert_eq!(output("V=$(git describe)\necho \"v=$V\" >> $GITHUB_OUTPUT", "v"), None);
        assert_eq!(written("if [ -f x ]; then echo a=1 >> $GITHUB_OUTPUT; fi", &BTreeMap::new()), None);
        assert_eq!(written("for x in a b; do echo a=1 >> $GITHUB_OUTPUT; done", &BTreeMap::new()), None);
        assert_eq!(output("fi\necho a=1 >> $GITHUB_OUTPUT", "a").as_deref(), Some("1"));
    }
}
