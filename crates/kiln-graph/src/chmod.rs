//! `--chmod`: modes as numbers or in the symbolic form of chmod(1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bits that a clause without `u`, `g`, `o` or `a` leaves alone, as BuildKit does.
const UMASK: u32 = 0o022;

/// What becomes of the mode of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chmod {
    /// This mode, whatever it was.
    Octal(u32),
    /// Changes to the mode that it has: `u+x,go=rX`.
    Symbolic(String),
}

impl Chmod {
    /// The mode of what has `mode` so far.
    pub fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        match self {
            Self::Octal(mode) => *mode,
            // It was checked when it was read.
            Self::Symbolic(text) => change(text, mode & 0o7777, is_folder).unwrap_or(mode),
        }
    }
}

/// A text is no mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChmodError;

impl fmt::Display for ChmodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an octal mode between 0 and 7777, or changes such as `u+x,go-w`")
    }
}

impl std::error::Error for ChmodError {}

impl FromStr for Chmod {
    type Err = ChmodError;

    fn from_str(text: &str) -> Result<Self, ChmodError> {
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| ChmodError)?;
            return if mode <= 0o7777 { Ok(Self::Octal(mode)) } else { Err(ChmodError) };
        }
        change(text, 0, false).map(|_| Self::Symbolic(text.to_owned())).ok_or(ChmodError)
    }
}

/// Applies all clauses; `None` if one is malformed.
fn change(text: &str, mut mode: u32, is_folder: bool) -> Option<u32> {
    for clause in text.split(',') {
        let operators = clause.find(['+', '-', '='])?;
        let (who, mut rest) = clause.split_at(operators);
        let mut mask = 0;
        for c in who.chars() {
            mask |= match c {
                'u' => 0o4700,
                'g' => 0o2070,
                'o' => 0o0007,
                'a' => 0o6777,
                _ => return None,
            };
        }
        // The sticky bit belongs to nobody in particular.
        let mask = if who.is_empty() { 0o7777 & !UMASK } else { mask | 0o1000 };
        while let Some(operator) = rest.chars().next() {
            let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
            let bits = permissions(&rest[1..end], mode, is_folder)? & mask;
            match operator {
                '+' => mode |= bits,
                '-' => mode &= !bits,
                // What is not named of a folder's special bits stays.
                _ => mode = (mode & !(mask & if is_folder { 0o777 } else { 0o7777 })) | bits,
            }
            rest = &rest[end..];
        }
    }
    Some(mode)
}

fn permissions(text: &str, mode: u32, is_folder: bool) -> Option<u32> {
    let copied = |shift: u32| {
        let bits = (mode >> shift) & 7;
        bits | bits << 3 | bits << 6
    };
    match text {
        "u" => return Some(copied(6)),
        "g" => return Some(copied(3)),
        "o" => return Some(copied(0)),
        _ => {}
    }
    text.chars().try_fold(0, |bits, c| {
        Some(
            bits | match c {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_folder || mode & 0o111 != 0 => 0o111,
                'X' => 0,
                's' => 0o6000,
                't' => 0o1000,
                _ => return None,
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_does() {
        for (text, before, folder, after) in [
            ("755", 0o644, false, 0o755),
            ("0", 0o644, false, 0),
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("+w", 0o444, false, 0o644),
            ("a+w", 0o444, false, 0o666),
            ("go-r", 0o644, false, 0o600),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("g=u", 0o640, false, 0o660),
            ("u+s,+t", 0o755, false, 0o5755),
            ("a=", 0o755, false, 0),
            ("u+x-w", 0o644, false, 0o544),
        ] {
            let chmod: Chmod = text.parse().expect(text);
            assert_eq!(chmod.apply(before, folder), after, "{text} on {before:o}");
        }
        for text in ["", "999", "17777", "u", "x+r", "u+q", "u+x,", "0x1", "-1"] {
            assert_eq!(text.parse::<Chmod>(), Err(ChmodError), "{text}");
        }
    }
}
