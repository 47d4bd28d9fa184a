//! What a step writes, line by line.

use std::collections::VecDeque;

use futures::StreamExt;
use kiln_docker::LogStream;
use kiln_graph::VertexId;

use crate::event::BuildEvent;
use crate::secret::Masks;
use crate::shared::Shared;

/// Lines of output that an error carries.
const TAIL: usize = 40;
/// Longest line that is passed on as one, in bytes; output without line ends is cut there.
const LONGEST_LINE: usize = 32 * 1024;

/// What is kept of a step's output.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) tail: VecDeque<String>,
    pub(crate) errors: Vec<String>,
    pub(crate) hints: Vec<String>,
    pub(crate) doubt: bool,
    pub(crate) no_space: bool,
}

/// What programs say when they cannot write (`ENOSPC`).
const NO_SPACE: &str = "No space left on device";

impl Output {
    fn add(&mut self, line: &str) {
        if let Some(error) = line.strip_prefix("kiln: error: ") {
            self.errors.push(error.to_owned());
        } else if let Some(hint) = line.strip_prefix("kiln: hint: ") {
            self.hints.push(hint.to_owned());
        } else if line == "kiln: doubt" {
            self.doubt = true;
        } else if line.contains(NO_SPACE) {
            self.no_space = true;
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
    }
}

/// Passes on the lines of a log, until it ends or both streams have come to their mark.
pub(crate) async fn follow(
    shared: &Shared,
    id: VertexId,
    logs: &mut LogStream,
    masks: &Masks,
    mark: Option<&str>,
) -> (Output, Option<Ended>) {
    let mut output = Output::default();
    let mut lines = [Lines::default(), Lines::default()];
    let mut seekers = mark.map(|mark| [Mark::new(mark), Mark::new(mark)]);
    let mut ended = [None; 2];
    let platforms = shared.plan.platforms[id.0].clone();
    let send = async |output: &mut Output, stderr: bool, line: String| {
        let line = masks.hide(line);
        output.add(&line);
        shared.emit(BuildEvent::StepLog { vertex: id, platforms: platforms.clone(), stderr, line }).await;
    };
    while let Some(Ok(chunk)) = logs.next().await {
        let which = usize::from(chunk.stderr);
        let bytes = match &mut seekers {
            None => chunk.bytes,
            Some(seekers) => {
                let (bytes, end) = seekers[which].push(&chunk.bytes);
                ended[which] = ended[which].or(end);
                bytes.into()
            }
        };
        for line in lines[which].push(&bytes) {
            send(&mut output, chunk.stderr, line).await;
        }
        if ended.iter().all(Option::is_some) {
            break;
        }
    }
    for stderr in [false, true] {
        let which = usize::from(stderr);
        if let Some(seekers) = &mut seekers {
            for line in lines[which].push(&seekers[which].rest()) {
                send(&mut output, stderr, line).await;
            }
        }
        if let Some(rest) = lines[which].finish() {
            send(&mut output, stderr, rest).await;
        }
    }
    (output, ended[0])
}

/// How a command ended, as `kiln-twin serve` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) code: i64,
    /// Whether it left nothing that a new container would not have, but for files.
    pub(crate) clean: bool,
}

/// Looks for the line that ends a command's output: a zero byte, the mark, the exit code, and whether it was clean.
struct Mark {
    needle: Vec<u8>,
    /// What may be the beginning of it.
    held: Vec<u8>,
}

impl Mark {
    fn new(mark: &str) -> Self {
        Self { needle: format!("\0{mark} ").into_bytes(), held: Vec::new() }
    }

    /// What of the bytes is output for certain, and the end if it has come.
    fn push(&mut self, bytes: &[u8]) -> (Vec<u8>, Option<Ended>) {
        self.held.extend_from_slice(bytes);
        let found = self.held.windows(self.needle.len()).position(|window| window == self.needle);
        if let Some(at) = found {
            let ended = Ended::parse(&self.held[at + self.needle.len()..]);
            if ended.is_some() {
                let output = self.held[..at].to_vec();
                self.held.clear();
                return (output, ended);
            }
        }
        // All but what a needle could begin with, or has begun with.
        let recent = self.held.len().saturating_sub(self.needle.len() - 1);
        let begins = |from: usize| self.needle.starts_with(&self.held[from..]);
        let at = found.or_else(|| (recent..self.held.len()).find(|from| begins(*from))).unwrap_or(self.held.len());
        let rest = self.held.split_off(at);
        (std::mem::replace(&mut self.held, rest), None)
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

impl Ended {
    /// Reads `CODE clean` or `CODE changed`, once it is there to its line's end.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let line = bytes.split(|byte| *byte == b'\n').next().filter(|line| line.len() < bytes.len())?;
        let (code, state) = std::str::from_utf8(line).ok()?.split_once(' ')?;
        Some(Self { code: code.parse().ok()?, clean: state == "clean" })
    }
}

/// Cuts bytes into lines. A carriage return ends a line as well: progress bars become lines.
#[derive(Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    after_return: bool,
}

impl Lines {
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            // The second half of `\r\n` ends no line of its own.
            let pair = byte == b'\n' && std::mem::take(&mut self.after_return);
            self.after_return = byte == b'\r';
            let ends = byte == b'\n' || byte == b'\r';
            if (ends && !pair) || self.line.len() >= LONGEST_LINE {
                lines.push(String::from_utf8_lossy(&self.line).into_owned());
                self.line.clear();
            }
            if !ends {
                self.line.push(byte);
            }
        }
        lines
    }

    pub(crate) fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.line);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_become_lines() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\ntw"), ["one"]);
        assert_eq!(lines.push(b"o\n10%\r20%\r"), ["two", "10%", "20%"]);
        assert_eq!(lines.push(b"\n\na\r\ndone"), ["", "a"]);
        assert_eq!(lines.finish().as_deref(), Some("done"));
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn output_without_line_ends_is_cut() {
        let mut lines = Lines::default();
        let cut = lines.push(&vec![b'x'; 3 * LONGEST_LINE]);
        assert!(cut.iter().all(|l| l.len() <= LONGEST_LINE));
        assert_eq!(cut.len(), 2);
    }

    #[test]
    fn a_steps_own_errors_and_hints_are_kept_apart() {
        let mut output = Output::default();
        for line in ["noise", "kiln: error: no such module", "kiln: hint: add it", "more"] {
            output.add(line);
        }
        assert_eq!(output.errors, ["no such module"]);
        assert_eq!(output.hints, ["add it"]);
        assert_eq!(output.tail.len(), 4);
    }

    #[test]
    fn a_mark_is_found_wherever_chunks_are_cut() {
        let text = b"partial\0m4rk\0m4rk 3 clean\n";
        let end = Some(Ended { code: 3, clean: true });
        for cut in 0..text.len() {
            let mut mark = Mark::new("m4rk");
            let (mut output, first) = mark.push(&text[..cut]);
            assert_eq!(first, None);
            let (more, second) = mark.push(&text[cut..]);
            output.extend(more);
            assert_eq!((output.as_slice(), second), (&b"partial\0m4rk"[..], end), "cut at {cut}");
        }
    }

    #[test]
    fn what_only_looks_like_a_mark_is_output() {
        let mut mark = Mark::new("m4rk");
        assert_eq!(mark.push(b"a\0m4"), (b"a".to_vec(), None));
        assert_eq!(mark.push(b"x\0"), (b"\0m4x".to_vec(), None));
        assert_eq!(mark.rest(), b"\0");
        let zeros = vec![0; 100_000];
        assert!(mark.push(&zeros).0.len() > 99_990);
    }
}
