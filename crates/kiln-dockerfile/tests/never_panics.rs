//! No text makes the front end panic: not the samples, and not the samples cut, doubled and mixed at random.

use kiln_dockerfile::{Ignore, NamedContext, NoCache, Options, ResolvedImage, ResolvedImages, parse};
use kiln_graph::{Arch, BuildGraph, ImageConfig, Platform};

const SAMPLES: [&str; 10] = [
    include_str!("../src/lower/tests/guide.Dockerfile"),
    "# syntax=docker/dockerfile:1\n# escape=`\n# check=skip=all;error=true\nFROM a AS b\nRUN x `\n  y\nCOPY c`d e`f\n",
    "ARG A=1 B=${A}2\nFROM --platform=$BUILDPLATFORM img:$B AS one\nARG TARGETARCH\nONBUILD RUN <<EOF\nx\nEOF\nFROM one AS two\n\
     FROM scratch\nCOPY --from=one --chown=a:b --chmod=0755 --link --exclude=*.x /a /b/\nCOPY --from=0 --parents /x/./y z/\n",
    "FROM a\nRUN <<-'E' 3<<\"F\" cat\n\ta\n\tE\nb\nF\nCOPY <<A <<B x /d/\n1 $V ${V:-x}\nA\n2\nB\nRUN <<E\n#!/bin/sh\nE\n",
    "FROM a\nENV A=b C=\"d $A\" E='f' G=h\\ i\nENV J k l\nLABEL \"a b\"=c\nEXPOSE 80 8000-8002/udp $P\nVOLUME [\"/a\"]\n\
     HEALTHCHECK --interval=1m30s --retries=3 CMD [\"x\"]\nSTOPSIGNAL SIGRTMIN+3\nSHELL [\"/bin/sh\"]\nCMD a\nENTRYPOINT []\nMAINTAINER é\n",
    "FROM a\nRUN --mount=type=cache,target=/c,sharing=locked,mode=0700 --mount=type=secret,id=s,env=S,required \
     --mount=type=ssh --mount=type=tmpfs,target=/t,size=64m --mount=from=img,src=/x,dst=y,rw \\\n  # comment\n\n  \
     --network=none --security=insecure [\"a\", \"b\"]\n",
    "FROM a\nWORKDIR ${A#*/}${B##x}${C%y}${D%%z}${E/a/b}${F//c/}${G:?h}${I:+$J}${K:-${L:-\"m\"}}\nUSER $U:${G}\n",
    "FROM a\nADD https://x/y /z\nADD git@h:r.git#m:s /z\nADD --checksum=sha256:0 --keep-git-dir --unpack=false a[b] c\n",
    "FROM a\nENV HOME=/h\nUSER 1:2\nRUN if (cd ~/x; A=$(pip3 --cache-dir=é install \"$B\" | sh -ec 'npm ci'); then \\\n  \
     PIP_CACHE_DIR=${C:-/c} exec env -i pip wheel `uv sync` > ~/.cache/* 2>&1 <<E; fi\nx\nE\nRUN rm -rf /h/.c[a-z]* $D/..\n",
    "*\n!src/**/*.[ch]\n**/tmp\\*\n/a/../b/\n# c\n\u{feff}!!x\n.git\n[a-\n",
];

/// A small generator (xorshift64*): the same texts in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap_or(0) % limit.max(1)
    }
}

fn mutate(random: &mut Random) -> String {
    const BITS: [&str; 34] = [
        "\\",
        "\\\n",
        "\n",
        "\r\n",
        "\"",
        "'",
        "$",
        "${",
        "}",
        "${A:-",
        "<<EOF",
        "<<-'E'",
        "EOF\n",
        "--",
        "--from=",
        "=",
        ",",
        " ",
        "\t",
        "[",
        "]",
        "[\"",
        "#",
        "# escape=`\n",
        "`",
        "é",
        "\u{0}",
        "\u{feff}",
        "ONBUILD ",
        "FROM b\n",
        "/./",
        "..",
        "*",
        "!",
    ];
    let mut text: Vec<char> = SAMPLES[random.below(SAMPLES.len())].chars().collect();
    for _ in 0..=random.below(8) {
        let at = random.below(text.len() + 1);
        let end = (at + random.below(12)).min(text.len());
        match random.below(5) {
            0 => drop(text.drain(at..end)),
            1 => {
                let copied: Vec<char> = text[at..end].to_vec();
                let to = random.below(text.len() + 1);
                text.splice(to..to, copied);
            }
            2 => {
                let other: Vec<char> = SAMPLES[random.below(SAMPLES.len())].chars().collect();
                let from = random.below(other.len());
                let to = (from + random.below(60)).min(other.len());
                text.splice(at..at, other[from..to].iter().copied());
            }
            _ => drop(text.splice(at..end.min(at + random.below(3)), BITS[random.below(BITS.len())].chars())),
        }
    }
    text.into_iter().collect()
}

fn exercise(text: &str) {
    if let Ok(ignore) = Ignore::parse(text) {
        for path in ["src/a/b.c", ".git", "x", "tmp*/y", ""] {
            let _ = (ignore.excluded(path), ignore.enter_dir(path));
        }
    }
    let file = match parse("Dockerfile", text) {
        Ok(file) => file,
        Err(error) => {
            check_error(&error, text);
            return;
        }
    };
    let mut options = Options::new(Platform::linux(Arch::Amd64));
    options.build_args = [("A".to_owned(), "x/y".to_owned()), ("ARCH".to_owned(), "arm64".to_owned())].into();
    options.contexts = [("img".to_owned(), NamedContext::Local)].into();
    options.no_cache = NoCache::Stages(vec!["one".into()]);
    let platform = Platform::linux(Arch::ArmV7);
    options.ignore = Ignore::parse("c*\n").ok();
    options.auto_caches = true;
    for warning in file.check(&options) {
        assert!(!warning.message.is_empty());
    }
    let checked = file.check_all(&options, platform, &ResolvedImages::new());
    checked.error.iter().for_each(|error| check_error(error, text));
    for target in file.stage_names() {
        let config =
            ImageConfig { on_build: vec!["RUN t".into(), "COPY --from=img /a /b".into()], ..ImageConfig::default() };
        let images = match file.base_images(&options, Some(&target), platform) {
            Ok(images) => images,
            Err(error) => {
                check_error(&error, text);
                continue;
            }
        };
        let resolved = |image| (image, ResolvedImage { id: "sha256:1".into(), config: config.clone(), digest: None });
        let images: ResolvedImages = images.into_iter().map(resolved).collect();
        let mut graph = BuildGraph::new();
        match file.lower(&options, Some(&target), platform, &images, &mut graph) {
            Ok(lowered) => assert!(lowered.target.root.0 < graph.len()),
            Err(error) => check_error(&error, text),
        }
    }
}

/// Errors can be shown, and their places are in the text.
fn check_error(error: &kiln_dockerfile::Error, text: &str) {
    assert!(!error.to_string().is_empty());
    let _ = error.hint();
    let Some(span) = error.span else { return };
    let lines = u32::try_from(text.split('\n').count()).expect("short");
    assert!(1 <= span.line && span.line <= span.end_line && span.end_line <= lines, "{span:?} in {text:?}");
    assert!(1 <= span.column && (span.line < span.end_line || span.column <= span.end_column), "{span:?} in {text:?}");
}

#[test]
fn samples() {
    SAMPLES.into_iter().for_each(exercise);
}

#[test]
fn mutated_samples() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..1000 {
        exercise(&mutate(&mut random));
    }
}

#[test]
fn prefixes_of_samples() {
    for sample in SAMPLES {
        for (end, _) in sample.char_indices() {
            exercise(&sample[..end]);
        }
    }
}
