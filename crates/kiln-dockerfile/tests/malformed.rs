//! Dockerfiles that are wrong: each gives an error with line, column and a text that says what is wrong.

use std::fmt::Write as _;

use kiln_dockerfile::{Error, Options, ResolvedImage, ResolvedImages, parse, parse_bytes};
use kiln_graph::{Arch, BuildGraph, ImageConfig, Platform};

#[rustfmt::skip]
const TABLE: &[(&str, &str)] = &[
    ("FROM a\nRUN\n", "2:1 `RUN` takes at least one argument"),
    ("RUN x y\nFROM a\n", "1:1 `RUN` before the first `FROM`"),
    ("FROM a\nRUN --nope x y\n", "2:5 unknown flag `--nope` of `RUN`"),
    ("FROM a\nCOPY\n", "2:1 `COPY` takes at least one source and a destination"),
    ("COPY x y\nFROM a\n", "1:1 `COPY` before the first `FROM`"),
    ("FROM a\nCOPY --nope x y\n", "2:6 unknown flag `--nope` of `COPY`"),
    ("FROM a\nADD\n", "2:1 `ADD` takes at least one source and a destination"),
    ("FROM a\nADD --nope x y\n", "2:5 unknown flag `--nope` of `ADD`"),
    ("FROM a\nARG\n", "2:1 `ARG` takes at least one argument"),
    ("FROM a\nARG --nope x y\n", "2:5 unknown flag `--nope` of `ARG`"),
    ("FROM a\nENV\n", "2:1 `ENV` takes at least one argument"),
    ("ENV x y\nFROM a\n", "1:1 `ENV` before the first `FROM`"),
    ("FROM a\nENV --nope x y\n", "2:5 unknown flag `--nope` of `ENV`"),
    ("FROM a\nWORKDIR\n", "2:1 `WORKDIR` takes exactly one argument"),
    ("FROM a\nWORKDIR --nope x y\n", "2:9 unknown flag `--nope` of `WORKDIR`"),
    ("FROM a\nUSER\n", "2:1 `USER` takes exactly one argument"),
    ("FROM a\nUSER --nope x y\n", "2:6 unknown flag `--nope` of `USER`"),
    ("FROM a\nSHELL\n", "2:1 `SHELL` takes at least one argument"),
    ("FROM a\nSHELL --nope x y\n", "2:7 unknown flag `--nope` of `SHELL`"),
    ("FROM a\nLABEL\n", "2:1 `LABEL` takes at least one argument"),
    ("FROM a\nLABEL --nope x y\n", "2:7 unknown flag `--nope` of `LABEL`"),
    ("FROM a\nCMD\n", "2:1 `CMD` takes at least one argument"),
    ("FROM a\nCMD --nope x y\n", "2:5 unknown flag `--nope` of `CMD`"),
    ("FROM a\nENTRYPOINT\n", "2:1 `ENTRYPOINT` takes at least one argument"),
    ("FROM a\nENTRYPOINT --nope x y\n", "2:12 unknown flag `--nope` of `ENTRYPOINT`"),
    ("FROM a\nEXPOSE\n", "2:1 `EXPOSE` takes at least one argument, and no empty ones"),
    ("FROM a\nEXPOSE --nope x y\n", "2:8 unknown flag `--nope` of `EXPOSE`"),
    ("FROM a\nVOLUME\n", "2:1 `VOLUME` takes at least one argument, and no empty ones"),
    ("FROM a\nVOLUME --nope x y\n", "2:8 unknown flag `--nope` of `VOLUME`"),
    ("FROM a\nSTOPSIGNAL\n", "2:1 `STOPSIGNAL` takes exactly one argument"),
    ("FROM a\nSTOPSIGNAL --nope x y\n", "2:12 unknown flag `--nope` of `STOPSIGNAL`"),
    ("FROM a\nHEALTHCHECK\n", "2:1 `HEALTHCHECK` takes `NONE`, or `CMD` and a command"),
    ("FROM a\nHEALTHCHECK --nope x y\n", "2:13 unknown flag `--nope` of `HEALTHCHECK`"),
    ("FROM a\nONBUILD\n", "2:1 `ONBUILD` takes an instruction"),
    ("FROM a\nONBUILD ONBUILD RUN x\n", "2:9 `ONBUILD` is not allowed as an `ONBUILD` trigger"),
    ("FROM a\nMAINTAINER\n", "2:1 `MAINTAINER` takes exactly one argument"),
    ("FROM a\nMAINTAINER --nope x y\n", "2:12 unknown flag `--nope` of `MAINTAINER`"),
    ("", "1:1 no instructions in the file"),
    ("\n\n", "1:1 no instructions in the file"),
    ("# only a comment\n", "1:1 no instructions in the file"),
    ("ARG a\n", "1:1 no `FROM` in the file"),
    ("FROM\n", "1:1 `FROM` takes an image, or an image, `AS` and a name"),
    ("FROM a b\n", "1:1 `FROM` takes an image, or an image, `AS` and a name"),
    ("FROM a AS\n", "1:1 `FROM` takes an image, or an image, `AS` and a name"),
    ("FROM a AS 1x\n", "1:11 invalid stage name `1x`"),
    ("FROM a AS x!\n", "1:11 invalid stage name `x!`"),
    ("FROM a AS b c\n", "1:1 `FROM` takes an image, or an image, `AS` and a name"),
    ("FROM --platform a\n", "1:6 flag `--platform` needs a value"),
    ("FROM --platform= a b c\n", "1:1 `FROM` takes an image, or an image, `AS` and a name"),
    ("FROM --os=x a\n", "1:6 unknown flag `--os` of `FROM`"),
    ("FROM a\nFROM --platform=linux/nope b\n", "2:17 invalid platform `linux/nope`: unknown platform `linux/nope`"),
    ("FORM a\n", "1:1 unknown instruction `FORM`"),
    ("FROM a\nRNU x\n", "2:1 unknown instruction `RNU`"),
    ("FROM a\nCOPPY a b\n", "2:1 unknown instruction `COPPY`"),
    ("FROM a\n{}\n", "2:1 unknown instruction `{}`"),
    ("FROM a\n= b\n", "2:1 unknown instruction `=`"),
    ("FROM a\nENV a=b c\n", "2:9 `c` is not of the form name=value"),
    ("FROM a\nENV a\n", "2:5 `a` is not of the form name=value"),
    ("FROM a\nENV =b\n", "2:5 `ENV` with a blank name"),
    ("FROM a\nLABEL =b\n", "2:7 `LABEL` with a blank name"),
    ("FROM a\nLABEL a=b c\n", "2:11 `c` is not of the form name=value"),
    ("FROM a\nARG =x\n", "2:5 `ARG` with a blank name"),
    ("FROM a\nENV a=\"b\n", "2:7 cannot expand `\"b`: double quote does not close"),
    ("FROM a\nENV a='b\n", "2:7 cannot expand `'b`: single quote does not close"),
    ("FROM a\nENV a=${b\n", "2:7 cannot expand `${b`: missing `}` in `${...}`"),
    ("FROM a\nENV a=${}\n", "2:7 cannot expand `${}`: bad substitution: no variable name after `${`"),
    ("FROM a\nENV a=${b:=c}\n", "2:7 cannot expand `${b:=c}`: unsupported modifier `:=` in a substitution"),
    ("FROM a\nENV a=${b!c}\n", "2:7 cannot expand `${b!c}`: unsupported modifier `!` in a substitution"),
    ("FROM a\nENV a=${b:?gone}\n", "2:7 cannot expand `${b:?gone}`: b: gone"),
    ("FROM a\nENV a=${b/x}\n", "2:7 cannot expand `${b/x}`: missing `/` in `${...}`"),
    ("FROM a\nENV a=${b#\\a}\n", "2:7 cannot expand `${b#\\a}`: invalid escape in pattern `\\a`"),
    ("FROM a\nCOPY a\n", "2:1 `COPY` takes at least one source and a destination"),
    ("FROM a\nCOPY [\"a\"]\n", "2:1 `COPY` takes at least one source and a destination"),
    ("FROM a\nCOPY [1, 2]\n", "2:6 a JSON array of arguments may hold strings only"),
    ("FROM a\nCOPY --from a b\n", "2:6 flag `--from` needs a value"),
    ("FROM a\nCOPY --from=$x a b\n", "2:13 variables are not expanded in `from`: `$x`"),
    ("FROM a\nCOPY --from=3 a b\n", "2:13 no stage with index 3 before this one"),
    ("FROM a\nCOPY --from=later a b\nFROM b AS later\n", "2:13 stage `later` is not defined before it is used"),
    ("FROM a\nCOPY --chmod=999 a b\n", "2:14 invalid value `999` for `--chmod`"),
    ("FROM a\nCOPY --link=perhaps a b\n", "2:13 invalid value `perhaps` for `--link`"),
    ("FROM a\nCOPY --chown a b\n", "2:6 flag `--chown` needs a value"),
    ("FROM a\nCOPY --chown=1 --chown=2 a b\n", "2:16 flag `--chown` given twice"),
    ("FROM a\nCOPY a b c\n", "2:10 several sources need a folder as destination, not `c`"),
    ("FROM a\nCOPY [a- b/\n", "2:6 invalid pattern `[a-`"),
    ("FROM a\nCOPY https://x/y z\n", "2:6 `COPY` does not read from the network: `https://x/y`"),
    ("FROM a\nCOPY --checksum=sha256:0 a b\n", "2:6 unknown flag `--checksum` of `COPY`"),
    ("FROM a\nCOPY a <<E\nx\nE\n", "2:8 a here-document cannot be a destination"),
    ("FROM a\nCOPY <<E /x\nnever\n", "2:1 here-document `E` does not end"),
    ("FROM a\nADD --from=b a c\n", "2:5 unknown flag `--from` of `ADD`"),
    ("FROM a\nADD --checksum=sha256:00 a b\n", "2:16 `--checksum` needs exactly one remote source"),
    ("FROM a\nADD --keep-git-dir=2 a b\n", "2:20 invalid value `2` for `--keep-git-dir`"),
    ("FROM a\nADD --unpack=x a b\n", "2:14 invalid value `x` for `--unpack`"),
    ("FROM a\nADD --parents a b\n", "2:5 unknown flag `--parents` of `ADD`"),
    ("FROM a\nRUN <<E\nx\n", "2:1 here-document `E` does not end"),
    ("FROM a\nRUN <<-E\n\tx\n E\n", "2:1 here-document `E` does not end"),
    ("FROM a\nRUN <<A <<B\nx\nA\n", "2:1 here-document `B` does not end"),
    ("FROM a\nRUN []\n", "2:1 `RUN` takes at least one argument"),
    ("FROM a\nRUN [1]\n", "2:5 a JSON array of arguments may hold strings only"),
    ("FROM a\nRUN --mount\n", "2:5 flag `--mount` needs a value"),
    ("FROM a\nRUN --mount= x\n", "2:13 unknown mount option ``"),
    ("FROM a\nRUN --mount=type=cach,target=/x y\n", "2:18 unknown mount type `cach`"),
    ("FROM a\nRUN --mount=type=cache y\n", "2:5 invalid mount target ``"),
    ("FROM a\nRUN --mount=type=cache,target=/ y\n", "2:5 invalid mount target `/`"),
    ("FROM a\nRUN --mount=type=bind,sharing=locked,target=/x y\n", "2:31 mount option `sharing` does not go with type `bind`"),
    ("FROM a\nRUN --mount=type=cache,target=/x,sharing=mine y\n", "2:42 invalid value `mine` for `sharing`"),
    ("FROM a\nRUN --mount=type=cache,target=/x,mode=9 y\n", "2:39 invalid value `9` for `mode`"),
    ("FROM a\nRUN --mount=type=cache,target=/x,uid=me y\n", "2:38 invalid value `me` for `uid`"),
    ("FROM a\nRUN --mount=type=cache,target=/x,gid=-1 y\n", "2:38 invalid value `-1` for `gid`"),
    ("FROM a\nRUN --mount=type=tmpfs,target=/x,size=big y\n", "2:39 invalid value `big` for `size`"),
    ("FROM a\nRUN --mount=type=bind,target=/x,size=1 y\n", "2:38 mount option `size` does not go with type `bind`"),
    ("FROM a\nRUN --mount=type=secret y\n", "2:5 a secret mount needs `id`, `source` or `target`, and only one of `id` and `source`"),
    ("FROM a\nRUN --mount=type=secret,id=a,src=b y\n", "2:5 a secret mount needs `id`, `source` or `target`, and only one of `id` and `source`"),
    ("FROM a\nRUN --mount=type=secret,id=a,required=often y\n", "2:39 invalid value `often` for `required`"),
    ("FROM a\nRUN --mount=type=tmpfs,target=/x,env=y z\n", "2:38 mount option `env` does not go with type `tmpfs`"),
    ("FROM a\nRUN --mount=type=ssh,sharing=shared y\n", "2:30 mount option `sharing` does not go with type `ssh`"),
    ("FROM a\nRUN --mount=type=bind,from=$x,target=/y z\n", "2:28 variables are not expanded in `from`: `$x`"),
    ("FROM a\nRUN --mount=type=bind,ro=maybe,target=/x y\n", "2:26 invalid value `maybe` for `ro`"),
    ("FROM a\nRUN --mount=type=bind,targt=/x y\n", "2:23 unknown mount option `targt`"),
    ("FROM a\nRUN --mount=target y\n", "2:13 `target` is not of the form name=value"),
    ("FROM a\nRUN --network=bridge x\n", "2:15 invalid value `bridge` for `--network`"),
    ("FROM a\nRUN --network x\n", "2:5 flag `--network` needs a value"),
    ("FROM a\nRUN --security=none x\n", "2:16 invalid value `none` for `--security`"),
    ("FROM a\nRUN --security x\n", "2:5 flag `--security` needs a value"),
    ("FROM a\nSHELL bash\n", "2:7 `SHELL` takes a JSON array of strings"),
    ("FROM a\nSHELL []\n", "2:1 `SHELL` takes at least one argument"),
    ("FROM a\nSHELL [1]\n", "2:7 a JSON array of arguments may hold strings only"),
    ("FROM a\nCMD [1, 2]\n", "2:5 a JSON array of arguments may hold strings only"),
    ("FROM a\nENTRYPOINT [{}]\n", "2:12 a JSON array of arguments may hold strings only"),
    ("FROM a\nVOLUME [1]\n", "2:8 a JSON array of arguments may hold strings only"),
    ("FROM a\nVOLUME [\"\"]\n", "2:1 `VOLUME` takes at least one argument, and no empty ones"),
    ("FROM a\nVOLUME []\n", "2:1 `VOLUME` takes at least one argument, and no empty ones"),
    ("FROM a\nEXPOSE x\n", "2:8 invalid value `x` for `EXPOSE`"),
    ("FROM a\nEXPOSE 80/foo\n", "2:8 invalid value `80/foo` for `EXPOSE`"),
    ("FROM a\nEXPOSE 70000\n", "2:8 invalid value `70000` for `EXPOSE`"),
    ("FROM a\nEXPOSE 9-8\n", "2:8 invalid value `9-8` for `EXPOSE`"),
    ("FROM a\nSTOPSIGNAL SIGWHAT\n", "2:12 invalid value `SIGWHAT` for `STOPSIGNAL`"),
    ("FROM a\nSTOPSIGNAL -1\n", "2:12 invalid value `-1` for `STOPSIGNAL`"),
    ("FROM a\nHEALTHCHECK NONE x\n", "2:1 `HEALTHCHECK` takes nothing after `NONE`"),
    ("FROM a\nHEALTHCHECK RUN x\n", "2:13 invalid value `RUN` for `HEALTHCHECK`"),
    ("FROM a\nHEALTHCHECK CMD\n", "2:1 `HEALTHCHECK` takes at least one argument"),
    ("FROM a\nHEALTHCHECK --interval=soon CMD x\n", "2:24 invalid value `soon` for `--interval`"),
    ("FROM a\nHEALTHCHECK --retries=-1 CMD x\n", "2:23 invalid value `-1` for `--retries`"),
    ("FROM a\nHEALTHCHECK --timeout=1us CMD x\n", "2:23 invalid value `1us` for `--timeout`"),
    ("FROM a\nHEALTHCHECK --interval CMD x\n", "2:13 flag `--interval` needs a value"),
    ("FROM a\nONBUILD FROM b\n", "2:9 `FROM` is not allowed as an `ONBUILD` trigger"),
    ("FROM a\nONBUILD MAINTAINER b\n", "2:9 `MAINTAINER` is not allowed as an `ONBUILD` trigger"),
    ("FROM a\nONBUILD NOPE b\n", "2:9 unknown instruction `NOPE`"),
    ("FROM a\nONBUILD COPY a\n", "2:9 `COPY` takes at least one source and a destination"),
    ("FROM a\nONBUILD RUN <<E\nx\n", "2:1 here-document `E` does not end"),
    ("# escape=x\nFROM a\n", "1:1 invalid value `x` for `# escape`"),
    ("# escape=`\n# escape=`\nFROM a\n", "2:1 parser directive `escape` given twice"),
    ("# syntax=a\n# syntax=b\nFROM a\n", "2:1 parser directive `syntax` given twice"),
    ("# check=what\nFROM a\n", "1:1 invalid value `what` for `# check`"),
    ("# check=error=perhaps\nFROM a\n", "1:1 invalid value `perhaps` for `# check=error`"),
    ("# check=skip=all\n# check=skip=all\nFROM a\n", "2:1 parser directive `check` given twice"),
    ("FROM a\nRUN a\0b\n", "2:6 NUL character in an instruction"),
    ("\0", "1:1 NUL character in an instruction"),
    ("FROM a\r\nRNU x\r\n", "2:1 unknown instruction `RNU`"),
    ("\u{feff}FROM a\nNOPE\n", "2:1 unknown instruction `NOPE`"),
    ("\u{feff}\u{feff}FROM a\n", "1:1 unknown instruction `\u{feff}FROM`"),
    ("F\0R\0O\0M\0", "1:2 NUL character in an instruction"),
    ("FROM a\nRUN x \\\n\n\n  # c\n  y\nNOPE z\n", "7:1 unknown instruction `NOPE`"),
    ("FROM a\nWORKDIR ${A:-${B:-${C}}\n", "2:9 cannot expand `${A:-${B:-${C}}`: missing `}` in `${...}`"),
    ("FROM ${a\n", "1:6 cannot expand `${a`: missing `}` in `${...}`"),
    ("FROM $NOTHING\n", "1:6 `$NOTHING` expands to nothing"),
    ("FROM ${a:?no base}\n", "1:1 `FROM` takes an image, or an image, `AS` and a name"),
    ("FROM a\nUSER \"x\n", "2:6 cannot expand `\"x`: double quote does not close"),
    ("FROM a\nCOPY --exclude a b\n", "2:6 flag `--exclude` needs a value"),
    ("FROM a AS b\nFROM c AS b\nCOPY --from=9 a b\n", "3:13 no stage with index 9 before this one"),
    ("<html>\n", "1:1 unknown instruction `<html>`"),
    ("{\"a\": 1}\n", "1:1 unknown instruction `{\"a\":`"),
    ("FROM a\n<<E\nE\n", "2:1 unknown instruction `<<E`"),
    ("FROM a\néè x\n", "2:1 unknown instruction `éè`"),
];

/// Parses and lowers every stage, with base images that set nothing.
fn build(text: &str) -> Result<(), Error> {
    let file = parse("Dockerfile", text)?;
    let platform = Platform::linux(Arch::Amd64);
    let options = Options::new(platform);
    for target in (0..file.stages.len()).map(|index| index.to_string()) {
        let mut images = ResolvedImages::new();
        for image in file.base_images(&options, Some(&target), platform)? {
            images.insert(image, ResolvedImage { id: "sha256:0".into(), config: ImageConfig::default(), digest: None });
        }
        file.lower(&options, Some(&target), platform, &images, &mut BuildGraph::new())?;
    }
    Ok(())
}

fn shown(error: &Error) -> String {
    let place = error.span.map_or("nowhere".to_owned(), |span| span.to_string());
    let mut text = format!("{place} {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn every_mistake_has_a_place_and_a_text() {
    assert!(TABLE.len() >= 100);
    let mut wrong = Vec::new();
    for (text, expected) in TABLE {
        let found = build(text).map_or_else(|error| shown(&error), |()| "no error".to_owned());
        if found != *expected {
            wrong.push(format!("{text:?}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), TABLE.len(), wrong.join("\n"));
}

#[test]
fn bytes_that_are_no_text_have_a_place() {
    for (bytes, expected) in [
        (&b"FROM a\nRUN \xff\n"[..], "2:5 byte 0xff is no UTF-8"),
        (b"\xff\xfeF\0R\0", "1:1 byte 0xff is no UTF-8"),
        (b"FROM a\n# caf\xe9\nRUN \xc3\xa9 \xe9t\xe9\n", "3:7 byte 0xe9 is no UTF-8"),
        (b"FROM a\nRUN \xf0\x9f\x98", "2:5 byte 0xf0 is no UTF-8"),
    ] {
        assert_eq!(shown(&parse_bytes("Dockerfile", bytes).expect_err("no UTF-8")), expected);
    }
    assert!(parse_bytes("Dockerfile", b"FROM a\n# caf\xe9\nRUN x\n").is_ok(), "comments may be in any encoding");
}

#[test]
fn large_and_deep_input_ends_soon() {
    let long = "x".repeat(2_000_000);
    assert!(build(&format!("FROM a\nENV A={long}\n")).is_ok());
    assert!(build(&format!("FROM a\nRUN {}\n", "y \\\n  ".repeat(50_000))).is_ok());
    assert!(build(&format!("FROM a\nRUN <<E\n{}E\n", "line\n".repeat(200_000))).is_ok());
    for (text, expected) in [
        (format!("FROM a\nENV A={}\n", "${a:-".repeat(100_000)), "substitutions are nested too deeply"),
        (format!("FROM a\nENV A={}{}\n", "${a:-".repeat(90), "}".repeat(90)), "substitutions are nested too deeply"),
        (format!("FROM a\nENV A={}\n", "\"$".repeat(100_001)), "quote does not close"),
        (format!("FROM a\n{long}\n"), "unknown instruction"),
        (format!("FROM a\n{}\n", "ONBUILD ".repeat(50_000)), "not allowed"),
        (format!("FROM a\nCMD {}\n", "[".repeat(100_000)), "no error"),
        (format!("FROM a\nCOPY {}\n", "[[".repeat(50_000)), "at least one source"),
    ] {
        let found = build(&text).map_or_else(|error| shown(&error), |()| "no error".to_owned());
        let start: String = found.chars().take(100).collect();
        assert!(found.contains(expected), "{start}: {expected}");
    }
    let mut stages = "FROM a AS s0\n".to_owned();
    for index in 1..300 {
        writeln!(stages, "FROM s{} AS s{index}\nRUN x", index - 1).expect("text");
    }
    let file = parse("Dockerfile", &stages).expect("valid");
    let platform = Platform::linux(Arch::Amd64);
    assert!(file.check_all(&Options::new(platform), platform, &ResolvedImages::new()).error.is_none());
}
