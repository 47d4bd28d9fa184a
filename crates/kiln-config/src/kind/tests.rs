use super::*;
use crate::raw::parse_value;

fn check(kind: &Kind, toml: &str) -> Result<String, Rejected> {
    kind.check(&parse_value(toml).unwrap()).map(|value| value.to_toml())
}

#[test]
fn good_values_become_plain() {
    for (kind, given, plain) in [
        (Kind::Toggle, "true", "\"yes\""),
        (Kind::Toggle, "\"No\"", "\"no\""),
        (Kind::Jobs, "4", "4"),
        (Kind::Jobs, "\"auto\"", "\"auto\""),
        (Kind::Size, "\"5000MB\"", "\"5GB\""),
        (Kind::Size, "1024", "\"1KiB\""),
        (Kind::Seconds, "\"2m\"", "120"),
        (Kind::Seconds, "90", "90"),
        (Kind::Python, "\"3.12\"", "\"3.12\""),
        (Kind::Module, "\"httpie.__main__\"", "\"httpie.__main__\""),
        (Kind::Recipe, "\"debian\"", "\"debian\""),
        (Kind::Recipe, "\"Dockerfile.build\"", "\"Dockerfile.build\""),
        (Kind::Recipe, "\"docker/build\"", "\"docker/build\""),
        (Kind::Platforms, "[\"amd64\", \"linux/x86_64\", \"arm64\"]", "[\"linux/amd64\", \"linux/arm64\"]"),
        (Kind::Requirements, "[\"rich>=13,<15\"]", "[\"rich>=13,<15\"]"),
        (Kind::Requirements, "\"req/base.txt\"", "\"req/base.txt\""),
        (Kind::Smoke, "true", "\"auto\""),
        (Kind::Smoke, "false", "false"),
        (Kind::Smoke, "[\"-c\", \"two words\"]", "[\"-c\", \"two words\"]"),
        (Kind::Arguments, "{ A = 1, B = true, C = \"x\" }", "{ A = \"1\", B = \"true\", C = \"x\" }"),
        (Kind::List(Item::Data), "[\"assets=assets\", \"a/b=.\"]", "[\"assets=assets\", \"a/b=.\"]"),
        (Kind::Artifact, "\"{name}-{arch}\"", "\"{name}-{arch}\""),
        (Kind::Url, "\"http://10.0.0.1:3128\"", "\"http://10.0.0.1:3128\""),
        (Kind::List(Item::Release), "[\"3.12\", \"3.13t\", \"3.15-dev\"]", "[\"3.12\", \"3.13t\", \"3.15-dev\"]"),
        (Kind::Labels, "\"ubuntu-latest\"", "\"ubuntu-latest\""),
        (Kind::Labels, "[\"self-hosted\", \"ARM64\"]", "[\"self-hosted\", \"ARM64\"]"),
        (Kind::Command, "\"make test && true\"", "\"make test && true\""),
        (Kind::Command, "[\"pytest\", \"-x\"]", "[\"pytest\", \"-x\"]"),
        (Kind::List(Item::Python), "[\"3.9\", \"3.12.4\"]", "[\"3.9\", \"3.12.4\"]"),
        (Kind::List(Item::Bill), "[\"spdx\"]", "[\"spdx\"]"),
        (Kind::List(Item::Signer), "[\"cosign:k\", \"keyless\"]", "[\"cosign:k\", \"keyless\"]"),
        (Kind::Images, "\"python:{python}-slim\"", "\"python:{python}-slim\""),
        (Kind::Images, "{ \"3.12\" = \"a/b:c\" }", "[\"3.12=a/b:c\"]"),
        (Kind::Images, "[\"3.12=a/b:c\"]", "[\"3.12=a/b:c\"]"),
    ] {
        assert_eq!(check(&kind, given).as_deref(), Ok(plain), "{kind:?} {given}");
    }
}

#[test]
fn words_are_split_like_a_shell_does() {
    for (text, words) in [
        ("--version", vec!["--version"]),
        ("  -c 'a b'  \"c\\\"d\" e\\ f ''", vec!["-c", "a b", "c\"d", "e f", ""]),
        ("", vec![]),
    ] {
        assert_eq!(split_words(text), Some(words.into_iter().map(str::to_owned).collect()), "{text}");
    }
    assert_eq!(split_words("'a"), None);
    assert_eq!(split_words("a\\"), None);
}

#[test]
fn wrong_values_are_refused_with_a_hint_where_one_is_known() {
    for (kind, given, hint) in [
        (Kind::Toggle, "\"yess\"", Some("did you mean \"yes\"?")),
        (Kind::Toggle, "2", None),
        (Kind::Jobs, "0", None),
        (Kind::Jobs, "-3", None),
        (Kind::Jobs, "\"4\"", Some("write the number without quotes")),
        (Kind::Python, "3.10", Some("put it in quotes: \"3.10\"")),
        (Kind::Python, "\"py3\"", None),
        (Kind::Module, "\"hello/main.py\"", Some("a file is set with `entry`; the module would be \"hello.main\"")),
        (Kind::Module, "\"main.py\"", Some("a file is set with `entry`; the module would be \"main\"")),
        (Kind::Recipe, "\"alpin\"", Some("did you mean \"alpine\"?")),
        (Kind::Recipe, "\"builder\"", Some("a file is written \"./builder\"")),
        (Kind::Platforms, "[]", None),
        (Kind::Platforms, "[\"linux/arm46\"]", Some("did you mean \"linux/arm64\"?")),
        (Kind::Platforms, "\"linux/arm64\"", Some("write a list: [\"linux/arm64\"]")),
        (Kind::List(Item::Data), "[\"assets\"]", Some("write \"assets=assets\"")),
        (Kind::List(Item::Data), "[\"a=/etc\"]", None),
        (Kind::List(Item::Data), "[\"a=../b\"]", None),
        (Kind::List(Item::Word), "[\"git; reboot\"]", None),
        (Kind::List(Item::Text), "[1]", None),
        (Kind::Bool, "\"true\"", Some("write true without quotes")),
        (Kind::Name, "\"../x\"", None),
        (Kind::Text, "\"\"", None),
        (Kind::Url, "\"mirror.example/simple\"", None),
        (Kind::Arguments, "{ \"a b\" = 1 }", None),
        (Kind::Smoke, "[]", None),
        (Kind::Smoke, "\"-c 'x\"", Some("a quotation mark is missing")),
        (Kind::Inside, "\"../main.py\"", None),
        (Kind::Inside, "\"/srv/main.py\"", None),
        (Kind::Smoke, "3", None),
        (Kind::Seconds, "0", None),
        (Kind::Size, "-1", None),
        (Kind::List(Item::Release), "[3.10]", Some("put it in quotes: \"3.10\"")),
        (Kind::List(Item::Release), "[\"py3\"]", None),
        (Kind::List(Item::Release), "[]", None),
        (Kind::Labels, "[]", None),
        (Kind::Labels, "1", None),
        (Kind::Command, "[]", None),
        (Kind::List(Item::Python), "[\"3\"]", None),
        (Kind::List(Item::Python), "[3.12]", Some("put it in quotes: \"3.12\"")),
        (Kind::List(Item::Python), "\"3.12\"", Some("write a list: [\"3.12\"]")),
        (Kind::List(Item::Bill), "[\"swid\"]", None),
        (Kind::List(Item::Signer), "[\"minisign:\"]", None),
        (Kind::List(Item::Signer), "[\"gpg:key\"]", None),
        (Kind::List(Item::Signer), "\"keyless\"", Some("write a list: [\"keyless\"]")),
        (Kind::Images, "\"python:3.12\"", None),
        (Kind::Images, "{ \"py\" = \"x\" }", None),
        (Kind::Images, "{ \"3.12\" = \"two words\" }", None),
    ] {
        let rejected = check(&kind, given).unwrap_err();
        assert_eq!(rejected.hint.as_deref(), hint, "{kind:?} {given}");
    }
}
