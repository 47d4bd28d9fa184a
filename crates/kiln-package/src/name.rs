//! Names of packages.

use crate::error::PackageError;
use crate::format::Format;

/// The name of a package in this format: as it was given, but in lower case and with `-` for `_`, so that it is the same in
/// all formats. Archives take it as it is.
///
/// Errors: what is left is no name there.
pub fn package_name(format: Format, given: &str) -> Result<String, PackageError> {
    if format.is_archive() {
        return Ok(given.to_owned());
    }
    let name = given.to_ascii_lowercase().replace('_', "-");
    let wrong = |rule| PackageError::Name { format, name: name.clone(), rule };
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !name.starts_with(is_plain) || !name.chars().all(|c| is_plain(c) || "+.-".contains(c)) {
        return Err(wrong("it is made of letters, digits, `+`, `.` and `-`, and begins with a letter or digit"));
    }
    // Source: Debian Policy, section 5.6.1.
    if format == Format::Deb && name.len() < 2 {
        return Err(wrong("it has two characters at least"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit_and_else_refused() {
        assert_eq!(package_name(Format::Deb, "My_Tool").unwrap(), "my-tool");
        assert_eq!(package_name(Format::TarGz, "My_Tool").unwrap(), "My_Tool");
        assert_eq!(package_name(Format::Apk, "x").unwrap(), "x");
        for name in ["x", "-a", "a b", "über", ""] {
            let error = package_name(Format::Deb, name).unwrap_err();
            assert!(error.to_string().contains("` is no name for deb packages: "), "{error}");
        }
    }
}
