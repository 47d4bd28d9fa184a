use kiln_graph::{Arch, Platform};

use crate::{Options, ResolvedImages, parse};

/// `line:column Rule message` of every warning.
fn check(text: &str) -> Vec<String> {
    let file = parse("f", text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let platform = Platform::linux(Arch::Amd64);
    let warnings = file.check_all(&Options::new(platform), platform, &ResolvedImages::new()).warnings;
    warnings.iter().map(|w| format!("{} {} {}", w.span.expect("span"), w.rule, w.message)).collect()
}

#[test]
fn a_clean_file_has_no_warnings() {
    let text = "# syntax=docker/dockerfile:1\nARG BASE=alpine\nFROM --platform=$BUILDPLATFORM ${BASE} AS build\n\
                WORKDIR /src\nWORKDIR sub\nENV A=b\nRUN make\nFROM scratch\nCOPY --from=build /a /\nENTRYPOINT [\"/a\"]\n";
    assert_eq!(check(text), [""; 0]);
}

#[test]
fn every_rule() {
    for (text, expected) in [
        ("FROM a AS Build", &["1:11 StageNameCasing stage name `Build` should be lowercase"][..]),
        (
            "FROM a AS b\nFROM a AS B",
            &[
                "2:11 DuplicateStageName stage name `b` is used more than once",
                "2:11 StageNameCasing stage name `B` should be lowercase",
            ],
        ),
        ("FROM a AS scratch", &["1:11 ReservedStageName `scratch` is reserved and should not name a stage"]),
        ("FROM a as b", &["1:1 FromAsCasing `as` and `FROM` should have the same case"]),
        ("from a AS b", &["1:1 FromAsCasing `AS` and `from` should have the same case"]),
        (
            "FROM a\nRUN x\nrun y",
            &["3:1 ConsistentInstructionCasing `run` should be uppercase, as most instructions here are"],
        ),
        (
            "from a\nrun x\nRun y",
            &["3:1 ConsistentInstructionCasing `Run` should be lowercase, as most instructions here are"],
        ),
        ("FROM a\nRUN x \\\n\n y", &["4:1 NoEmptyContinuation empty continuation line"]),
        ("FROM a\nENV b c", &["2:1 LegacyKeyValueFormat write `ENV b=...`, not `ENV b ...`"]),
        ("FROM a\nLABEL b c", &["2:1 LegacyKeyValueFormat write `LABEL b=...`, not `LABEL b ...`"]),
        (
            "FROM a\nMAINTAINER me",
            &["2:1 MaintainerDeprecated `MAINTAINER` is deprecated; use `LABEL org.opencontainers.image.authors`"],
        ),
        (
            "FROM a\nCMD b",
            &[
                "2:1 JSONArgsRecommended `CMD` should be a JSON array, so that signals reach the program and not a shell",
            ],
        ),
        ("FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nCMD b", &[]),
        (
            "FROM a\nCMD [\"b\"]\nCMD [\"c\"]",
            &["2:1 MultipleInstructionsDisallowed only the last `CMD` of a stage counts"],
        ),
        ("FROM a\nWORKDIR b", &["2:9 WorkdirRelativePath relative folder `b` depends on the base image"]),
        ("FROM a AS b\nWORKDIR /c\nFROM b\nWORKDIR d", &[]),
        (
            "FROM $UNKNOWN",
            &[
                "1:6 InvalidDefaultArgInFrom without build arguments, `$UNKNOWN` is no valid base image",
                "1:6 UndefinedArgInFrom `FROM` uses `UNKNOWN`, which no `ARG` before it declares",
            ],
        ),
        (
            "ARG VERSION=3\nFROM a:$VERSOIN",
            &[
                "2:6 InvalidDefaultArgInFrom without build arguments, `a:$VERSOIN` is no valid base image",
                "2:6 UndefinedArgInFrom `FROM` uses `VERSOIN`, which no `ARG` before it declares (did you mean `VERSION`?)",
            ],
        ),
        ("ARG V\nFROM a:$V", &["2:6 InvalidDefaultArgInFrom without build arguments, `a:$V` is no valid base image"]),
        ("ARG V\nFROM a${V:+:$V}", &[]),
        (
            "FROM --platform=$TARGETPLATFORM a",
            &["1:17 RedundantTargetPlatform `--platform=$TARGETPLATFORM` is the default and may be left out"],
        ),
        (
            "FROM --platform=linux/amd64 a",
            &["1:17 FromPlatformFlagConstDisallowed `--platform` should not be the constant `linux/amd64`"],
        ),
        ("FROM --platform=linux/amd64 a AS build_amd64", &[]),
        ("FROM --platform=$BUILDPLATFORM a", &[]),
        ("FROM a\nEXPOSE 80:80", &["2:8 ExposeInvalidFormat `80:80`: only container ports can be exposed"]),
        ("FROM a\nEXPOSE 80/TCP", &["2:8 ExposeProtoCasing the protocol in `80/TCP` should be lowercase"]),
        (
            "# check=skip=JSONArgsRecommended,StageNameCasing;error=true\nFROM a AS B\nCMD c\nENV d e",
            &["4:1 LegacyKeyValueFormat write `ENV d=...`, not `ENV d ...`"],
        ),
        ("# check=skip=all\nFROM a AS B", &[]),
    ] {
        assert_eq!(check(text), expected, "{text}");
    }
}

#[test]
fn names_of_secrets() {
    for (name, expected) in [
        ("API_KEY", true),
        ("apikey", true),
        ("DATABASE_PASSWORD", true),
        ("GITHUB_TOKEN", true),
        ("secret_message", true),
        ("AUTH", true),
        ("KEYBOARD", false),
        ("PUBLIC_KEY", false),
        ("TOKEN_FILE", true),
        ("AUTH_VERSION", true),
        ("MONKEY", false),
    ] {
        for text in [format!("FROM a\nENV {name}=x"), format!("FROM a\nARG {name}")] {
            let found = check(&text);
            assert_eq!(found.iter().any(|w| w.contains("SecretsUsedInArgOrEnv")), expected, "{text}: {found:?}");
        }
    }
}

#[test]
fn the_directive_is_read() {
    let file = parse("f", "# check=skip=A, B;error=TRUE\nFROM a").expect("valid");
    let config = file.check_config();
    assert_eq!((config.skip.as_slice(), config.error), (&["A".to_owned(), "B".to_owned()][..], true));
    for (text, expected) in [
        ("# check=foo=bar\nFROM a", "1:1 invalid value `foo` for `# check`"),
        ("# check=skip\nFROM a", "1:1 invalid value `skip` for `# check`"),
        ("# escape=`\n# check=error=maybe\nFROM a", "2:1 invalid value `maybe` for `# check=error`"),
    ] {
        let error = parse("f", text).expect_err(text);
        assert_eq!(format!("{} {error}", error.span.expect("place")), expected);
    }
}
