//! The checks find what `docker buildx build --call=check` (0.29, BuildKit of Docker 28.5) finds: its rules at its lines.
//! Every row was run there; `**/ignored.txt` was in `.dockerignore`, and `debian` an image that sets only `PATH`.

use kiln_dockerfile::{Ignore, Options, ResolvedImage, ResolvedImages, parse};
use kiln_graph::{Arch, ImageConfig, Platform};

#[rustfmt::skip]
const TABLE: &[(&str, &[&str])] = &[
    ("FROM scratch AS Build", &["1 StageNameCasing"]),
    ("FROM scratch AS b\nFROM scratch AS B", &["2 DuplicateStageName", "2 StageNameCasing"]),
    ("FROM scratch AS b\nFROM scratch AS b", &["2 DuplicateStageName"]),
    ("FROM scratch AS scratch", &["1 ReservedStageName"]),
    ("FROM scratch AS context", &["1 ReservedStageName"]),
    ("FROM scratch as b", &["1 FromAsCasing"]),
    ("from scratch AS b", &["1 FromAsCasing"]),
    ("From scratch as b", &["1 ConsistentInstructionCasing"]),
    ("FROM debian\nRUN x\nrun y", &["3 ConsistentInstructionCasing"]),
    ("from debian\nrun x\nRun y", &["3 ConsistentInstructionCasing"]),
    ("From scratch\nCOPY . .", &["1 ConsistentInstructionCasing"]),
    ("from scratch\nCOPY . .", &["1 ConsistentInstructionCasing"]),
    ("ARG x\nARG y\narg z\nfrom scratch\ncopy . .", &[]),
    ("FROM scratch\nONBUILD run x\nhealthcheck cmd x", &["3 ConsistentInstructionCasing"]),
    ("FROM scratch\nRun x\nRun y", &["2 ConsistentInstructionCasing", "3 ConsistentInstructionCasing"]),
    ("FROM debian\nRUN x \\\n\n y", &["4 NoEmptyContinuation"]),
    ("FROM debian\nRUN x \\\n\n\n y && \\\n\n z\nRUN a \\\n\n b", &["7 NoEmptyContinuation", "10 NoEmptyContinuation"]),
    ("FROM debian\nRUN x \\\n  # comment\n y", &[]),
    ("FROM scratch\nENV b c\nLABEL b c\nENV d=e", &["2 LegacyKeyValueFormat", "3 LegacyKeyValueFormat"]),
    ("FROM scratch\nENV b  c d=e", &["2 LegacyKeyValueFormat"]),
    ("FROM scratch\nENV b \"c d\"", &["2 LegacyKeyValueFormat"]),
    ("FROM scratch\nMAINTAINER me", &["2 MaintainerDeprecated"]),
    ("FROM scratch\nCMD b\nENTRYPOINT c d", &["2 JSONArgsRecommended", "3 JSONArgsRecommended"]),
    ("FROM scratch\nSHELL [\"/bin/bash\", \"-c\"]\nCMD b", &[]),
    ("FROM scratch\nCMD b\nSHELL [\"/bin/bash\", \"-c\"]", &["2 JSONArgsRecommended"]),
    ("FROM scratch AS a\nSHELL [\"/bin/bash\", \"-c\"]\nFROM a\nCMD b", &[]),
    ("FROM scratch\nHEALTHCHECK CMD foo bar", &[]),
    ("FROM scratch\nCMD [\"a\", b]", &["2 JSONArgsRecommended"]),
    ("FROM scratch\nCMD [\"b\"]\nCMD [\"c\"]\nCMD [\"d\"]\nENTRYPOINT [\"x\"]\nENTRYPOINT [\"y\"]", &["2 MultipleInstructionsDisallowed", "3 MultipleInstructionsDisallowed", "5 MultipleInstructionsDisallowed"]),
    ("FROM scratch\nHEALTHCHECK NONE\nHEALTHCHECK CMD [\"x\"]", &["2 MultipleInstructionsDisallowed"]),
    ("FROM scratch AS a\nCMD [\"b\"]\nFROM a\nCMD [\"c\"]", &[]),
    ("FROM scratch\nWORKDIR b\nWORKDIR c", &["2 WorkdirRelativePath"]),
    ("FROM scratch\nWORKDIR /b\nWORKDIR c", &[]),
    ("FROM scratch AS a\nWORKDIR /c\nFROM a\nWORKDIR d", &[]),
    ("FROM scratch\nARG B=x\nWORKDIR $B", &["3 WorkdirRelativePath"]),
    ("FROM scratch\nARG B=/x\nWORKDIR $B", &[]),
    ("FROM scratch\nWORKDIR \"b\"", &["2 WorkdirRelativePath"]),
    ("FROM debian\nWORKDIR b", &["2 WorkdirRelativePath"]),
    ("FROM scratch\nWORKDIR c:/x\nWORKDIR \\\\a", &["2 WorkdirRelativePath"]),
    ("FROM scratch\nWORKDIR $U", &["2 UndefinedVar", "2 WorkdirRelativePath"]),
    ("FROM scratch\nCOPY $foo .", &["2 UndefinedVar"]),
    ("FROM scratch\nARG foo\nCOPY $foo .\nENV X=$bar", &["4 UndefinedVar"]),
    ("FROM debian\nENV PATH=/x:$PAHT", &["2 UndefinedVar"]),
    ("FROM scratch\nENV PATH=$PATH:/x LD=$LD_LIBRARY_PATH", &["2 UndefinedVar"]),
    ("FROM scratch\nENV A=${X:-d} B=${Y:+e} C=${Z#a}", &["2 UndefinedVar", "2 UndefinedVar", "2 UndefinedVar"]),
    ("FROM debian\nRUN echo $NOPE\nCMD [\"$NOPE\"]", &[]),
    ("FROM scratch\nARG VERSION=1\nLABEL v=$VERSOIN w=$VERSION", &["3 UndefinedVar"]),
    ("FROM scratch\nLABEL v=$TARGETARCH", &["2 UndefinedVar"]),
    ("FROM scratch\nARG A=$B\nENV C=$A D=$A", &["2 UndefinedVar"]),
    ("FROM debian\nCOPY <<E /x\n$NOPE\nE\nCOPY <<\"E\" /y\n$NO\nE", &["2 UndefinedVar"]),
    ("FROM debian\nSHELL [\"pwsh\"]\nRUN x\nENV A=$Path", &["4 UndefinedVar"]),
    ("FROM scratch\nENV A=$HTTP_PROXY\nENV B=$http_proxy", &["2 UndefinedVar", "3 UndefinedVar"]),
    ("FROM scratch\nONBUILD ENV A=$B", &[]),
    ("FROM $UNKNOWN", &["1 InvalidDefaultArgInFrom", "1 UndefinedArgInFrom"]),
    ("ARG VERSION=bookworm\nFROM debian:$VERSOIN", &["2 InvalidDefaultArgInFrom", "2 UndefinedArgInFrom"]),
    ("FROM --platform=$BULIDPLATFORM scratch", &["1 UndefinedArgInFrom"]),
    ("FROM ${UNKNOWN:-scratch}", &["1 UndefinedArgInFrom"]),
    ("FROM scratch${UNKNOWN:+x}", &["1 UndefinedArgInFrom"]),
    ("FROM scratch AS b\nARG X=1\nFROM debian:$X", &["3 InvalidDefaultArgInFrom", "3 UndefinedArgInFrom"]),
    ("ARG V\nFROM debian:$V", &["2 InvalidDefaultArgInFrom"]),
    ("ARG V\nFROM scratch${V:+:$V}", &[]),
    ("ARG I\nFROM ${I}", &["2 InvalidDefaultArgInFrom"]),
    ("ARG V=''\nFROM debian:${V}bookworm${X}", &["2 UndefinedArgInFrom"]),
    ("ARG A B=x\nFROM $A AS q", &["2 InvalidDefaultArgInFrom"]),
    ("FROM --platform=$TARGETPLATFORM scratch", &["1 RedundantTargetPlatform"]),
    ("FROM --platform=${TARGETPLATFORM} scratch", &["1 RedundantTargetPlatform"]),
    ("FROM --platform=${TARGETPLATFORM:-linux/amd64} scratch", &["1 RedundantTargetPlatform"]),
    ("FROM --platform=$TARGETOS/$TARGETARCH scratch", &[]),
    ("FROM --platform=linux/amd64 scratch", &["1 FromPlatformFlagConstDisallowed"]),
    ("FROM --platform=linux/amd64 scratch AS build_amd64", &[]),
    ("FROM --platform=linux/amd64 scratch AS build", &["1 FromPlatformFlagConstDisallowed"]),
    ("FROM --platform=$BUILDPLATFORM scratch AS build", &[]),
    ("ARG P=linux/amd64\nFROM --platform=$P scratch AS build", &[]),
    ("FROM --platform=linux/amd64 scratch AS linux", &[]),
    ("ARG KEY\nFROM scratch\nENV PUBLIC_KEY=a TOKEN_FILE=b PASSWD=c pword=d KEYBOARD=e", &["3 SecretsUsedInArgOrEnv", "3 SecretsUsedInArgOrEnv", "3 SecretsUsedInArgOrEnv"]),
    ("FROM scratch\nENV apikey=a auth_version=b git_credentials=c my-secret=d SECRETS=x passphrase=y", &["2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv"]),
    ("FROM scratch\nENV MY_TOKEN\\\n_X=a\nLABEL password=x", &["2 SecretsUsedInArgOrEnv"]),
    ("FROM scratch\nEXPOSE 80:80 127.0.0.1:80:80", &["2 ExposeInvalidFormat", "2 ExposeInvalidFormat"]),
    ("FROM scratch\nEXPOSE 80/TCP 90/Udp", &["2 ExposeProtoCasing", "2 ExposeProtoCasing"]),
    ("FROM scratch\nEXPOSE 80-90/tcp 100-200:300-400/TCP", &["2 ExposeInvalidFormat", "2 ExposeProtoCasing"]),
    ("FROM scratch\nARG P=80:80\nEXPOSE $P", &["3 ExposeInvalidFormat"]),
    ("# check=experimental=all\n# bar this is\nARG foo=bar\n# base does it\nFROM scratch AS base\n# wrong\nFROM base AS out", &["3 InvalidDefinitionDescription", "7 InvalidDefinitionDescription"]),
    ("# check=experimental=InvalidDefinitionDescription\n# a b\nARG foo=bar\n\n# c d\n\nFROM scratch AS base\n# foo: x\nARG foo\n# other\nARG bar", &["3 InvalidDefinitionDescription", "7 InvalidDefinitionDescription", "9 InvalidDefinitionDescription", "11 InvalidDefinitionDescription"]),
    ("# check=experimental=all\n\n# base is good\nFROM scratch AS base\n# xx\nRUN x\n# unnamed\nFROM scratch", &[]),
    ("# check=skip=JSONArgsRecommended,StageNameCasing\nFROM scratch AS B\nCMD c\nENV d e", &["4 LegacyKeyValueFormat"]),
    ("# check=skip=all\nFROM scratch AS B\nCMD c", &[]),
    ("# check=error=true\nFROM scratch AS B", &["2 StageNameCasing"]),
    ("# check=skip=all;error=true\nFROM scratch AS B", &[]),
    ("# check=skip=NoSuchRule\nFROM scratch AS B", &["2 StageNameCasing"]),
    ("FROM scratch AS a\nCOPY $x .\nWORKDIR q\nFROM scratch", &["2 UndefinedVar", "3 WorkdirRelativePath"]),
    ("FROM scratch\nCOPY a /", &[]),
    ("FROM debian\nRUN <<EOF\necho $X\nEOF\nCOPY <<EOF /x\n$Y\nEOF", &["5 UndefinedVar"]),
    ("# check=experimental=CopyIgnoredFile\nFROM scratch\nCOPY ignored.txt /\nADD sub/ignored.txt /\nCOPY . /\nCOPY ign*.txt /\nCOPY ./ignored.txt sub /x/", &["3 CopyIgnoredFile", "4 CopyIgnoredFile", "7 CopyIgnoredFile"]),
    ("# check=experimental=all\nFROM scratch\nARG F=ignored.txt\nCOPY $F /\nCOPY a ignored.txt /x/\nADD --chown=1 https://x/ignored.txt /", &["4 CopyIgnoredFile", "5 CopyIgnoredFile"]),
    ("# check=skip=all;experimental=all\nFROM scratch\nCOPY ignored.txt /\nFROM scratch AS B", &["3 CopyIgnoredFile"]),
    ("# check=skip=CopyIgnoredFile;experimental=all\nFROM scratch\nCOPY ignored.txt /", &["3 CopyIgnoredFile"]),
    ("FROM scratch\nARG API_KEY PASSWORD=x token\nENV my_secret=a GITHUB_TOKEN=b AUTH=c", &["2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv", "3 SecretsUsedInArgOrEnv", "3 SecretsUsedInArgOrEnv", "3 SecretsUsedInArgOrEnv"]),
    ("ARG KEY\nARG MY_PASSWORD=x\nFROM scratch", &[]),
    ("FROM scratch\nENV AUTH_FILE=a TOKEN_VERSION=b SECRET_KEY_BASE=c KEY=d PUBLIC_KEY=e KEY_PUBLIC=f PASSWORD_FILE=g", &["2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv"]),
    ("FROM scratch\nENV SSH_KEY=a credential=b mycredential=c PWORD=x pass=y keys=z AUTH_TOKEN=q MYKEY=a KEYSTORE=b\nENV SECRET_ID=1", &["2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv", "2 SecretsUsedInArgOrEnv", "3 SecretsUsedInArgOrEnv"]),
    ("FROM scratch\nUSER $U\nLABEL a=$L\nCOPY --chown=$O a /\nCOPY --chmod=$M a /b\nADD --chown=$O a /x", &["2 UndefinedVar", "3 UndefinedVar", "4 UndefinedVar", "5 UndefinedVar", "6 UndefinedVar"]),
    ("FROM scratch\nONBUILD ENV A=$B\nFROM scratch AS x\nHEALTHCHECK CMD $Q", &[]),
    ("FROM scratch AS a\nONBUILD ENV A=$B\nONBUILD ENV x y\nONBUILD CMD foo\nFROM a", &["5 JSONArgsRecommended", "5 LegacyKeyValueFormat", "5 UndefinedVar"]),
    ("FROM scratch AS a\nONBUILD WORKDIR x\nFROM a", &["3 WorkdirRelativePath"]),
    ("FROM --platform=$TARGETPLATFORM scratch AS a\nFROM scratch", &["1 RedundantTargetPlatform"]),
    ("FROM scratch AS a\nENV A=$u\nFROM scratch AS b\nENV B=$v\nFROM a", &["2 UndefinedVar", "4 UndefinedVar"]),
    ("FROM scratch AS a\nFROM a\nWORKDIR d", &["3 WorkdirRelativePath"]),
    ("FROM scratch AS a\nWORKDIR x\nFROM a\nWORKDIR d", &["2 WorkdirRelativePath"]),
    ("FROM scratch\nONBUILD WORKDIR x", &[]),
    ("fRom scratch\nCopy a /", &["1 ConsistentInstructionCasing", "2 ConsistentInstructionCasing"]),
    ("FROM scratch aS b", &["1 FromAsCasing"]),
    ("from scratch As b", &["1 FromAsCasing"]),
    ("FROM scratch\nENTRYPOINT [\"x\"]\nCMD [\"x\"]\nENTRYPOINT [\"y\"]\nHEALTHCHECK NONE\nHEALTHCHECK NONE", &["2 MultipleInstructionsDisallowed", "5 MultipleInstructionsDisallowed"]),
    ("FROM scratch\nCMD []\nENTRYPOINT []", &[]),
    ("FROM scratch\nONBUILD CMD foo", &[]),
    ("FROM scratch\nEXPOSE [::1]:80:80 80:80/UDP", &["2 ExposeInvalidFormat", "2 ExposeInvalidFormat", "2 ExposeProtoCasing"]),
    ("FROM scratch AS b\nFROM b AS b", &["2 DuplicateStageName"]),
    ("FROM --platform=linux/amd64 scratch AS AMD64", &["1 StageNameCasing"]),
    ("FROM --platform=linux scratch", &["1 FromPlatformFlagConstDisallowed"]),
    ("FROM --platform=linux/arm/v7 scratch AS armv7", &[]),
    ("FROM --platform=windows/amd64 scratch AS x", &["1 FromPlatformFlagConstDisallowed"]),
    ("FROM scratch\nENV A=1\nENV B=$A C=$B\nENV D=$C", &["3 UndefinedVar"]),
    ("ARG G=1\nFROM scratch\nENV A=$G", &["3 UndefinedVar"]),
    ("ARG G=1\nFROM scratch\nARG G\nENV A=$G\nENV B=${g}", &["5 UndefinedVar"]),
    ("FROM scratch\nENV foo=1\nENV B=$Foo C=$fo D=$foobarbaz", &["3 UndefinedVar", "3 UndefinedVar", "3 UndefinedVar"]),
    ("FROM scratch\nENV A=$a$a ${b}=c", &["2 UndefinedVar", "2 UndefinedVar"]),
    ("FROM scratch\nARG A=${B:-x}\nARG C=${A:?no}", &["2 UndefinedVar"]),
    ("#check=skip=all\nFROM scratch AS B", &[]),
    ("# CHECK=skip=all\nFROM scratch AS B", &[]),
    ("# check=skip=stagenamecasing\nFROM scratch AS B", &["2 StageNameCasing"]),
    ("# check=skip=ALL\nFROM scratch AS B", &["2 StageNameCasing"]),
    ("# check=error=1\nFROM scratch AS B", &["2 StageNameCasing"]),
    ("# check=skip=StageNameCasing, JSONArgsRecommended;\nFROM scratch AS B", &[]),
    ("# foo\n# check=skip=all\nFROM scratch AS B", &["3 StageNameCasing"]),
    ("# escape=`\n# check=skip=all\nFROM scratch AS B", &[]),
    ("FROM scratch AS B\n# check=skip=all", &["1 StageNameCasing"]),
    ("# check=experimental=all\n# a does\n# two\nARG a\n# b\nARG b=1 c\n#x y\nFROM scratch AS s\n# d f\nENV d=1", &["4 InvalidDefinitionDescription", "8 InvalidDefinitionDescription"]),
    ("# check=experimental=all\n# wrong\n\nARG a\n# other\nFROM scratch as st\nARG a\n# foo\nARG b=1", &["4 InvalidDefinitionDescription", "6 FromAsCasing", "6 InvalidDefinitionDescription", "9 InvalidDefinitionDescription"]),
    ("# check=experimental=all\nARG a\nFROM scratch", &[]),
    ("# check=experimental=all\nFROM scratch AS a\n# foo\nCOPY a /\nARG q", &[]),
    ("# check=experimental=all\n#\n# \nARG a\nFROM scratch AS a\n#\tq f\nARG q", &[]),
    ("FROM debian\nRUN --mount=type=bind,source=$S,target=/x true\nCOPY $A $B /x/\nVOLUME /a$V", &["2 UndefinedVar", "3 UndefinedVar", "3 UndefinedVar", "4 UndefinedVar"]),
    ("FROM debian AS a\nCMD foo\nFROM a\nENTRYPOINT [\"x\"]", &["2 JSONArgsRecommended"]),
    ("FROM debian\nARG A\nARG A=$A\nARG B=$C\nENV D=$B", &["4 UndefinedVar"]),
    ("FROM debian\nRUN --mount=type=cache,target=/c,id=$X true", &["2 UndefinedVar"]),
];

fn found(text: &str) -> Vec<String> {
    let file = parse("Dockerfile", text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let platform = Platform::linux(Arch::Amd64);
    let mut options = Options::new(platform);
    options.ignore = Some(Ignore::parse("**/ignored.txt\n").expect("valid"));
    let mut images = ResolvedImages::new();
    loop {
        let checked = file.check_all(&options, platform, &images);
        if checked.assumed.is_empty() {
            let mut found: Vec<(u32, &str)> =
                checked.warnings.iter().map(|w| (w.span.map_or(0, |span| span.line), w.rule.name())).collect();
            found.sort_unstable();
            return found.iter().map(|(line, rule)| format!("{line} {rule}")).collect();
        }
        for image in checked.assumed {
            let mut config = ImageConfig::default();
            config.set_env("PATH", "/bin");
            images.insert(image, ResolvedImage { id: "sha256:0".into(), config, digest: None });
        }
    }
}

#[test]
fn the_rules_and_lines_are_those_of_buildkit() {
    let mut wrong = Vec::new();
    for (text, expected) in TABLE {
        let found = found(text);
        if found != *expected {
            wrong.push(format!("{text:?}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), TABLE.len(), wrong.join("\n"));
}
