use super::*;

fn env() -> Vec<(String, String)> {
    let pairs = [
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("KOREAN", "한국어"),
        ("EMPTY", ""),
        ("FILE", "archive.tar.gz"),
        ("DIRS", "/usr/local/bin/python"),
        ("STARS", "a*b"),
        ("MULTI", "one two  three"),
        ("BACK", r"C:\dir"),
    ];
    pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec()
}

fn word(text: &str) -> Result<String, ExpandError> {
    expand(text, Mode::word('\\'), &env()).map(|expanded| expanded.text)
}

#[test]
fn words_expand_as_in_buildkit() {
    for (text, expected) in [
        ("hello", "hello"),
        ("he'll'o", "hello"),
        (r"he\'llo", "he'llo"),
        (r"he\\'llo'", r"he\llo"),
        (r"abc\tdef", "abctdef"),
        (r#""abc\tdef""#, r"abc\tdef"),
        (r#""abc\\tdef""#, r"abc\tdef"),
        (r"'abc\\tdef'", r"abc\\tdef"),
        (r"hello\", "hello"),
        (r"hello\\", r"hello\"),
        (r#""hello""#, "hello"),
        (r#""hello\"""#, "hello\""),
        (r#""hel'lo""#, "hel'lo"),
        (r"'hello\there'", r"hello\there"),
        (r"'hello\\there'", r"hello\\there"),
        ("''", ""),
        (r#""""#, ""),
        ("$.", "$."),
        ("he$1x", "hex"),
        ("he$.x", "he$.x"),
        ("he$pwd.", "he."),
        ("he$PWD", "he/home"),
        (r"he\$PWD", "he$PWD"),
        (r#"he"\$PWD""#, "he$PWD"),
        (r"he\\$PWD", r"he\/home"),
        ("he${}", "error"),
        ("he${hi", "error"),
        ("he${hi}xx", "hexx"),
        ("he${PWD}", "he/home"),
        ("he${PWD", "error"),
        ("he${PWD:=000}xx", "error"),
        ("he${PWD:+${PWD}:}xx", "he/home:xx"),
        ("he${XXX:-${PWD}:}xx", "he/home:xx"),
        ("he${XXX:-${YYY}:}xx", "he:xx"),
        ("he${XXX:YYY}", "error"),
        ("'he${XXX:-x}'", "he${XXX:-x}"),
        ("he${EMPTY:-x}", "hex"),
        ("he${EMPTY-x}", "he"),
        ("he${EMPTY:+x}", "he"),
        ("he${EMPTY+x}", "hex"),
        ("he${XXX-x}", "hex"),
        ("he${XXX+x}", "he"),
        ("he${PWD:-x}", "he/home"),
        ("he${PWD:?x}", "he/home"),
        ("he${XXX?}", "error"),
        ("he${XXX:?msg}", "error"),
        ("he${EMPTY:?}", "error"),
        ("he${EMPTY?}", "he"),
        ("${{a}}", "error"),
        ("${:-x}", "error"),
        ("${", "error"),
        ("$", "$"),
        ("$$", ""),
        ("he'", "error"),
        ("\"he", "error"),
        ("${XXX:-\"}\"}", "}"),
        ("${XXX:-'$PWD'}", "$PWD"),
        (r"${XXX:-\}}", "}"),
        ("안녕${KOREAN}", "안녕한국어"),
        ("$KOREAN한", ""),
        ("${KOREAN}한", "한국어한"),
        ("a$SHELL-b", "abash-b"),
        ("${SHELL}${SHELL}", "bashbash"),
        ("${PWD^}", "error"),
    ] {
        let actual = word(text).unwrap_or_else(|_| "error".into());
        assert_eq!(actual, expected, "{text}");
    }
}

#[test]
fn patterns_trim_and_replace() {
    for (text, expected) in [
        ("${FILE%.*}", "archive.tar"),
        ("${FILE%%.*}", "archive"),
        ("${FILE#*.}", "tar.gz"),
        ("${FILE##*.}", "gz"),
        ("${FILE#x}", "archive.tar.gz"),
        ("${FILE%}", "archive.tar.gz"),
        ("${FILE#}", "archive.tar.gz"),
        ("${FILE#archive}", ".tar.gz"),
        ("${FILE#????}", "ive.tar.gz"),
        ("${FILE%.t?r.gz}", "archive"),
        ("${FILE%${XXX:-.gz}}", "archive.tar"),
        ("${DIRS##*/}", "python"),
        ("${DIRS%/*}", "/usr/local/bin"),
        ("${DIRS#*/*/}", "local/bin/python"),
        ("${DIRS/usr/opt}", "/opt/local/bin/python"),
        (r"${DIRS/\//:}", ":usr/local/bin/python"),
        (r"${DIRS//\//:}", ":usr:local:bin:python"),
        ("${FILE/a/}", "rchive.tar.gz"),
        ("${FILE//a/X}", "Xrchive.tXr.gz"),
        ("${FILE/a*r/-}", "-.gz"),
        ("${FILE/zz/-}", "archive.tar.gz"),
        ("${FILE//./$SHELL}", "archivebashtarbashgz"),
        ("${FILE//?/x}", "xxxxxxxxxxxxxx"),
        (r"${STARS/\*/-}", "a-b"),
        (r"${STARS#a\*}", "b"),
        (r"${STARS/\a/-}", "error"),
        (r"${BACK//\\//}", "C:/dir"),
        ("${FILE/a", "error"),
        ("${FILE/a/b", "error"),
        ("${FILE#a", "error"),
        ("${XXX#a}", ""),
        ("${XXX/a/b}", ""),
        ("${KOREAN#?}", "국어"),
        ("${KOREAN%?}", "한국"),
    ] {
        let actual = word(text).unwrap_or_else(|_| "error".into());
        assert_eq!(actual, expected, "{text}");
    }
}

#[test]
fn words_split_at_space_that_is_not_quoted() {
    for (text, expected) in [
        ("hello", &["hello"][..]),
        ("hello there", &["hello", "there"]),
        ("  hello   there ", &["hello", "there"]),
        ("'hello there'", &["hello there"]),
        (r"hello\ there", &["hello there"]),
        ("$MULTI", &["one", "two", "three"]),
        ("\"$MULTI\"", &["one two  three"]),
        ("x${MULTI}y", &["xone", "two", "threey"]),
        ("${EMPTY} a", &["a"]),
        ("", &[]),
    ] {
        assert_eq!(expand(text, Mode::word('\\'), &env()).expect(text).words, expected, "{text}");
    }
}

#[test]
fn other_modes() {
    let all = |mode, text| expand(text, mode, &env()).expect(text).text;
    assert_eq!(all(Mode::word('`'), r#"a`"b\c`$PWD"#), r#"a"b\c$PWD"#);
    assert_eq!(all(Mode::document(), r#"'$PWD' "${XXX}" \$PWD \\"#), r#"'/home' "" $PWD \"#);
    for (text, expected) in [
        (r#"echo "$PWD" '$PWD' $XXX ${XXX}"#, r#"echo "/home" '$PWD' $XXX ${XXX}"#),
        ("${XXX:-$PWD} ${XXX#a} ${XXX//a/b}", "${XXX:-/home} ${XXX#a} ${XXX//a/b}"),
        (r"a\ b \$PWD", r"a\ b \$PWD"),
    ] {
        assert_eq!(all(Mode::display('\\'), text), expected);
    }
}

#[test]
fn the_names_that_were_met_are_told() {
    let expanded = expand("$PWD ${A} ${B:-x} ${C#x} '$D'", Mode::word('\\'), &env()).expect("valid");
    assert_eq!(expanded.matched.into_iter().collect::<Vec<_>>(), ["PWD"]);
    assert_eq!(expanded.unmatched.into_iter().collect::<Vec<_>>(), ["A", "B", "C"]);
}

#[test]
fn errors_say_what_is_wrong() {
    for (text, expected) in [
        ("${XXX:?give it}", "XXX: give it"),
        ("${XXX?}", "XXX: must be set"),
        ("${EMPTY:?}", "EMPTY: must not be empty"),
        ("${PWD", "missing `}` in `${...}`"),
        ("${PWD:=x}", "unsupported modifier `:=` in a substitution"),
        ("'x", "single quote does not close"),
    ] {
        assert_eq!(word(text).expect_err(text).to_string(), expected);
    }
    let deep = "${a:-".repeat(5000);
    assert_eq!(word(&deep), Err(ExpandError::Depth));
}
