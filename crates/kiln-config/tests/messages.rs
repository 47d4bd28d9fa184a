//! What a user is told: errors with place, value and what is allowed; warnings with a suggestion.

use kiln_config::{Config, ConfigError, Layer, Loaded, ProjectFacts};

fn load(layers: Vec<Layer>) -> Result<Loaded, ConfigError> {
    let folder_name = "hello".to_owned();
    Config::load(layers, &ProjectFacts { folder_name, ..ProjectFacts::default() })
}

fn file(text: &str) -> Layer {
    Layer::file("kiln.toml", text)
}

fn env(name: &str, value: &str) -> Layer {
    Layer::env([(name, value)])
}

fn flag(key: &str, value: &str) -> Layer {
    Layer::flags([(key, value)])
}

#[test]
fn wrong_values_are_errors_with_place_value_and_what_is_allowed() {
    for (layer, message, hint) in [
        (
            file("[nuitka]\nlto = \"maybe\"\n"),
            "kiln.toml:2:7: `nuitka.lto` cannot be \"maybe\"; allowed: \"auto\", \"yes\" (or true), \"no\" (or false)",
            None,
        ),
        (
            file("[nuitka]\n  mode = \"onefil\"\n"),
            "kiln.toml:2:10: `nuitka.mode` cannot be \"onefil\"; allowed: \"onefile\" or \"standalone\"",
            Some("did you mean \"onefile\"?"),
        ),
        (
            file("[project]\nname = \"ü\"\npython = 3.10\n"),
            "kiln.toml:2:8: `project.name` cannot be \"ü\"; allowed: letters, digits, `.`, `_` and `-`, beginning with a letter or digit",
            None,
        ),
        (
            file("[project]\npython = 3.10 # ü\n"),
            "kiln.toml:2:10: `project.python` cannot be 3.10; allowed: a Python version such as \"3.12\"",
            Some("put it in quotes: \"3.10\""),
        ),
        (
            file("build.platforms = [\n  \"linux/amd64\",\n  \"linux/arm46\",\n]\n"),
            "kiln.toml:3:3: `build.platforms` cannot be \"linux/arm46\"; allowed: a list of platforms, of which kiln knows \
             linux/amd64, linux/386, linux/arm64, linux/arm/v7, linux/arm/v6, linux/riscv64, linux/ppc64le, linux/s390x",
            Some("did you mean \"linux/arm64\"?"),
        ),
        (
            file("[platform.\"linux/arm64\"]\nnuitka.jobs = 0\n"),
            "kiln.toml:2:15: `platform.\"linux/arm64\".nuitka.jobs` cannot be 0; allowed: \"auto\" or a number from 1 to 1024",
            None,
        ),
        (
            file("[platform.\"linux/arm46\"]\nlto = \"no\"\n"),
            "kiln.toml:1:11: unknown platform `linux/arm46` (did you mean `linux/arm64`?)",
            Some(
                "kiln builds for linux/amd64, linux/386, linux/arm64, linux/arm/v7, linux/arm/v6, linux/riscv64, linux/ppc64le, linux/s390x",
            ),
        ),
        (
            file("[platform.\"linux/arm64\"]\nversion = \"1\"\n"),
            "kiln.toml:2:1: `version` could mean `project.version` and `nuitka.version`",
            Some("write the section too, for example `project.version = ...`"),
        ),
        (
            file("[platform.\"linux/arm64\"]\noutput = \"x\"\n"),
            "kiln.toml:2:1: `build.output` holds for the whole build and cannot differ by platform",
            Some("move `output` to the section [build]"),
        ),
        (
            file("[platform.\"linux/arm64\".cache]\nscope = \"x\"\n"),
            "kiln.toml:2:1: `cache.scope` holds for the whole build and cannot differ by platform",
            Some("move `scope` to the section [cache]"),
        ),
        (
            file("[platform.\"linux/arm64\"]\nlto = true\nnuitka.lto = true\n"),
            "kiln.toml:3:14: `platform.\"linux/arm64\".nuitka.lto` is already set at kiln.toml:2:7",
            Some("remove one of the two"),
        ),
        (
            file("nuitka = \"2.7\"\n"),
            "kiln.toml:1:10: `nuitka` is a section and cannot be \"2.7\"",
            Some("write [nuitka] on a line of its own"),
        ),
        (
            file("[project]\nentry = \"main.py\"\nmodule = \"hello\"\n"),
            "kiln.toml:3:10: both `project.entry` and `project.module` are set (kiln.toml:2:9)",
            Some("entry names a file, module a dotted module name; keep the one that starts the program"),
        ),
        (
            file("[build]\nartifact = \"../{name}\"\n"),
            "kiln.toml:2:12: `build.artifact` cannot be \"../{name}\"; allowed: a relative path without `..`, with the \
             placeholders {name}, {version}, {arch} and {platform}",
            Some("the artifact must stay inside the output folder: set `build.output` to write elsewhere"),
        ),
        (
            file("[build]\nartifact = \"{name}\"\n"),
            "kiln.toml:2:12: `linux/amd64`, `linux/386` and `linux/arm64` would all be written to `hello`",
            Some("use {arch} or {platform} in `artifact`"),
        ),
        (
            file("[build]\nartifact = \"{version}-{arch}\"\n"),
            "kiln.toml:2:12: `build.artifact` uses {version}, but the project has no version",
            Some("set `version` in [project]"),
        ),
        (
            env("KILN_NUITKA_JOBS", "many"),
            "KILN_NUITKA_JOBS: `nuitka.jobs` cannot be \"many\"; allowed: \"auto\" or a number from 1 to 1024",
            None,
        ),
        (
            flag("cache.max-size", "5XB"),
            "command line (cache.max-size): `cache.max-size` cannot be \"5XB\"; allowed: a size such as \"500MiB\" or \"5GB\"",
            None,
        ),
        (
            flag("nuitka.job", "4"),
            "unknown setting `nuitka.job` (did you mean `nuitka.jobs`?)",
            Some("`kiln config show` lists every setting"),
        ),
        (
            flag("lto", "no"),
            "unknown setting `lto` (did you mean `nuitka.lto`?)",
            Some("`kiln config show` lists every setting"),
        ),
    ] {
        let error = load(vec![layer]).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.hint().as_deref(), hint, "{message}");
        assert_eq!(error.location().is_some(), message.starts_with("kiln.toml"), "{message}");
    }
}

#[test]
fn broken_toml_says_where() {
    for (text, beginning) in [
        ("[project]\nname = hello\n", "kiln.toml:2:8: invalid TOML: "),
        ("[project\n", "kiln.toml:1:9: invalid TOML: "),
        ("a = 1\na = 2\n", "kiln.toml:2:1: invalid TOML: duplicate key"),
        ("x = \"ä\n", "kiln.toml:1:"),
        ("\u{feff}[project]\nname = \n", "kiln.toml:2:"),
    ] {
        let error = load(vec![file(text)]).unwrap_err();
        assert!(error.to_string().starts_with(beginning), "{error}");
        let hint = error.hint().unwrap_or_default();
        let expected = match text {
            "[project]\nname = hello\n" => "text values stand in double quotes: name = \"hello\"",
            "a = 1\na = 2\n" => "remove one of the two lines",
            _ => continue,
        };
        assert_eq!(hint, expected);
    }
}

#[test]
fn unknown_keys_are_warnings_with_a_suggestion() {
    let text = "lto = true\n[nuitka]\nlot = true\njosb = 4\nicon = \"x\"\nfrobnicate = 1\n[biuld]\nx = 1\n[platform.amd64]\n\
                plugin = []\n";
    let loaded = load(vec![
        file(text),
        Layer::env([
            ("KILN_NUITKA_JOB", "4"),
            ("KILN_LOG", "debug"),
            ("KILN_TESTBED_ROOT", "/x"),
            ("KILN_WHATEVER", "1"),
            ("KILN_NUITKA_MODE", "  "),
            ("PATH", "/bin"),
        ])
        .ignoring(&["KILN_LOG", "KILN_TESTBED*"]),
    ])
    .unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "kiln.toml:1:1: unknown key `lto` (did you mean `nuitka.lto`?)",
            "kiln.toml:3:1: unknown key `nuitka.lot` (did you mean `nuitka.lto`?)",
            "kiln.toml:4:1: unknown key `nuitka.josb` (did you mean `nuitka.jobs`?)",
            "kiln.toml:5:1: unknown key `nuitka.icon` (did you mean `project.icon`?)",
            "kiln.toml:6:1: unknown key `nuitka.frobnicate`",
            "kiln.toml:7:2: unknown key `biuld` (did you mean `build`?)",
            "kiln.toml:10:1: unknown key `platform.\"linux/amd64\".plugin` (did you mean `nuitka.plugins`?)",
            "unknown variable KILN_NUITKA_JOB (did you mean `KILN_NUITKA_JOBS`?)",
            "unknown variable KILN_WHATEVER",
        ]
    );
    assert_eq!(loaded.config.resolved(), load(vec![]).unwrap().config.resolved());
}
