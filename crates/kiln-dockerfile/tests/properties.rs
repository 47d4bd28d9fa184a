//! What holds for every text: nothing panics, errors have a place in the text, and what matches can be said twice.

use kiln_dockerfile::expand::{Mode, Quotes, expand};
use kiln_dockerfile::{Ignore, Options, ResolvedImages, parse, parse_bytes};
use kiln_graph::{Arch, BuildGraph, ImageConfig, Platform};
use proptest::prelude::*;

/// Pieces that Dockerfiles are made of, so that texts get past the first line.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "FROM a\n",
        "FROM a AS b\n",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "LABEL ",
        "WORKDIR ",
        "USER ",
        "CMD ",
        "ENTRYPOINT ",
        "SHELL ",
        "EXPOSE ",
        "VOLUME ",
        "STOPSIGNAL ",
        "HEALTHCHECK ",
        "ONBUILD ",
        "MAINTAINER ",
        "--from=",
        "--mount=type=",
        "cache",
        "bind",
        "secret",
        "tmpfs",
        ",target=/x",
        ",id=",
        "--chown=",
        "--chmod=7",
        "--link",
        "--platform=",
        "linux/arm64",
        "$",
        "${",
        "}",
        ":-",
        ":+",
        ":?",
        "##",
        "%%",
        "//",
        "\"",
        "'",
        "\\",
        "`",
        "\\\n",
        "\n",
        "\r\n",
        "\t",
        " ",
        "=",
        "[",
        "]",
        "[\"a\"]",
        ",",
        "<<E",
        "<<-\"E\"",
        "E\n",
        "# escape=`\n",
        "# check=skip=all\n",
        "# c\n",
        "#",
        "a",
        "b",
        "A",
        "/",
        "./",
        "..",
        "*",
        "**",
        "?",
        "!",
        "[a-",
        "\0",
        "é",
        "\u{feff}",
    ]);
    prop_oneof![8 => fixed.prop_map(str::to_owned), 1 => any::<String>(), 1 => "[ -~]{0,12}"]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat())
}

/// The error's place is in the text.
fn is_placed(error: &kiln_dockerfile::Error, text: &str) -> Result<(), TestCaseError> {
    prop_assert!(!error.to_string().is_empty());
    let span = error.span.ok_or_else(|| TestCaseError::fail(format!("no place: {error}")))?;
    let lines: Vec<&str> = text.split('\n').collect();
    let line = lines.get(span.line as usize - 1).ok_or_else(|| TestCaseError::fail(format!("{span:?}")))?;
    prop_assert!(1 <= span.column && span.column as usize <= line.chars().count() + 1, "{span:?} {error}");
    prop_assert!(span.end_line as usize <= lines.len(), "{span:?} {error}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_parsed_or_refused_with_a_place(text in text()) {
        let file = match parse("f", &text) {
            Ok(file) => file,
            Err(error) => return is_placed(&error, &text),
        };
        let platform = Platform::linux(Arch::Amd64);
        let options = Options::new(platform);
        let checked = file.check_all(&options, platform, &ResolvedImages::new());
        if let Some(error) = &checked.error {
            is_placed(error, &text)?;
        }
        let mut images = ResolvedImages::new();
        for image in checked.assumed {
            let config = ImageConfig::default();
            images.insert(image, kiln_dockerfile::ResolvedImage { id: "sha256:0".into(), config, digest: None });
        }
        let lowered = file.lower(&options, None, platform, &images, &mut BuildGraph::new());
        prop_assert!(lowered.is_ok() || checked.error.is_some() || lowered.is_err_and(|e| e.span.is_some()));
    }

    #[test]
    fn any_bytes_are_parsed_or_refused_with_a_place(bytes in prop::collection::vec(any::<u8>(), 0..200), text in text()) {
        let mixed = [text.as_bytes(), &bytes].concat();
        for bytes in [&bytes, &mixed] {
            if let Err(error) = parse_bytes("f", bytes) {
                is_placed(&error, &String::from_utf8_lossy(bytes))?;
            }
        }
    }

    #[test]
    fn expansion_ends_and_plain_words_stay(word in text(), plain in "[a-zA-Z0-9/._:-]{0,40}", value in any::<String>()) {
        let variables = [("a".to_owned(), value), ("A".to_owned(), String::new())];
        for quotes in [Quotes::Remove, Quotes::Keep, Quotes::Ignore] {
            for (raw_escapes, keep_unset) in [(false, false), (true, true)] {
                let mode = Mode { quotes, raw_escapes, keep_unset, ..Mode::word('\\') };
                let _ = expand(&word, mode, &variables[..]);
                prop_assert_eq!(&expand(&plain, mode, &variables[..]).expect("plain").text, &plain);
            }
        }
    }

    #[test]
    fn quoting_keeps_every_value(value in "[^']{0,60}") {
        let none: &[(String, String)] = &[];
        prop_assert_eq!(expand(&format!("'{value}'"), Mode::word('\\'), none).expect("quoted").text, value);
    }

    #[test]
    fn ignore_files_never_panic_and_walks_agree(text in text(), lines in prop::collection::vec("[!]?[a-c*?/.]{1,6}", 0..6),
        path in "[a-c]{1,2}(/[a-c]{1,2}){0,3}") {
        for text in [text, lines.join("\n")] {
            let Ok(ignore) = Ignore::parse(&text) else { continue };
            let excluded = ignore.excluded(&path);
            prop_assert_eq!(excluded, ignore.line_that_excludes(&path).is_some());
            // A walk from the top that only enters what may be entered sees every path that is not left out.
            let above: Vec<&str> = path.match_indices('/').map(|(index, _)| &path[..index]).collect();
            prop_assert!(excluded || above.iter().all(|folder| ignore.enter_dir(folder)), "{:?} {}", text, path);
        }
    }
}
