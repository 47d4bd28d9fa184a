use super::*;

fn images(text: &str, options: &Options, target: Option<&str>) -> Vec<String> {
    let file = parse("f", text).expect("valid");
    let images = file.base_images(options, target, ARM64).expect("plan");
    images.iter().map(|image| format!("{} {}", image.reference, image.platform)).collect()
}

const MANY: &str = "ARG TAG=1\n\
    FROM --platform=$BUILDPLATFORM tools:$TAG AS Tools\n\
    FROM base AS unused\n\
    RUN x\n\
    FROM tools AS build\n\
    COPY --from=other:2 /a /a\n\
    RUN --mount=from=third,target=/t make\n\
    FROM scratch AS export\n\
    COPY --from=BUILD /a /\n\
    COPY --from=0 /b /\n";

#[test]
fn only_reachable_images_are_asked_for() {
    let options = options(&[]);
    let all = ["tools:1 linux/amd64", "other:2 linux/arm64", "third linux/arm64"];
    assert_eq!(images(MANY, &options, None), all);
    assert_eq!(images(MANY, &options, Some("EXPORT")), all);
    assert_eq!(images(MANY, &options, Some("tools")), ["tools:1 linux/amd64"]);
    assert_eq!(images(MANY, &options, Some("unused")), ["base linux/arm64"]);
    assert_eq!(images(MANY, &options, Some("1")), ["base linux/arm64"]);
    assert_eq!(images(MANY, &super::options(&[("TAG", "9")]), Some("tools")), ["tools:9 linux/amd64"]);
}

#[test]
fn only_reachable_stages_are_lowered() {
    let (lowered, graph) = lower(MANY);
    assert_eq!(
        origins(&graph),
        [
            "Dockerfile:2-2 [tools 1/1] FROM tools:1",
            "Dockerfile:6-6 [ 0/0] load other:2",
            "Dockerfile:6-6 [build 1/2] COPY --from=other:2 /a /a",
            "Dockerfile:7-7 [ 0/0] load third",
            "Dockerfile:7-7 [build 2/2] RUN --mount=from=third,target=/t make",
            "Dockerfile:8-8 [export 0/2] FROM scratch",
            "Dockerfile:9-9 [export 1/2] COPY --from=BUILD /a /",
            "Dockerfile:10-10 [export 2/2] COPY --from=0 /b /",
        ]
    );
    assert_eq!(lowered.target.name, "export");
    // A stage on top of another has its platform: that of the machine that builds.
    assert_eq!(last_exec(&graph).platform, AMD64);
    assert_eq!(lowered.target.platform, ARM64);
}

#[test]
fn stages_of_the_build_platform_are_shared_between_platforms() {
    let text = "FROM --platform=$BUILDPLATFORM a AS tools\nRUN x\nFROM b\nCOPY --from=tools /x /x\n";
    let file = parse("f", text).expect("valid");
    let options = options(&[]);
    let mut graph = BuildGraph::new();
    for platform in [AMD64, ARM64] {
        let images = resolve(&file, &options, None, platform);
        file.lower(&options, None, platform, &images, &mut graph).expect("lowers");
    }
    // a, RUN x; then b and COPY for each.
    assert_eq!(graph.len(), 6);
    // A declared platform argument sets them apart.
    let file = parse("f", &text.replace("RUN x", "ARG TARGETARCH\nRUN x")).expect("valid");
    let mut graph = BuildGraph::new();
    for platform in [AMD64, ARM64] {
        let images = resolve(&file, &options, None, platform);
        file.lower(&options, None, platform, &images, &mut graph).expect("lowers");
    }
    assert_eq!(graph.len(), 7);
}

#[test]
fn what_cannot_be_planned() {
    for (text, expected) in [
        ("FROM a\nCOPY --from=later /x /\nFROM b AS later\nFROM a\nCOPY --from=stage0 /x /", ""),
        (
            "FROM a AS x\nCOPY --from=x /x /",
            "2:13 stage `x` is not defined before it is used | move that stage above this one",
        ),
        (
            "FROM a AS x\nRUN --mount=from=x,target=/y z",
            "2:18 stage `x` is not defined before it is used | move that stage above this one",
        ),
        ("FROM a\nCOPY --from=0 /x /", "2:13 no stage with index 0 before this one"),
        ("FROM a\nCOPY --from=7 /x /", "2:13 no stage with index 7 before this one"),
        (
            "ARG A\nFROM $A",
            "2:6 `$A` expands to nothing | pass the build argument, or give the `ARG` before `FROM` a default",
        ),
        (
            "FROM ${A:?none}",
            "1:6 cannot expand `${A:?none}`: A: none | pass `--build-arg A=VALUE`, or set it with ENV or ARG",
        ),
        (
            "FROM --platform=linux/arm46 a",
            "1:17 invalid platform `linux/arm46`: unknown platform `linux/arm46` (did you mean `linux/arm64`?) | kiln builds for linux/amd64, linux/386, linux/arm64, linux/arm/v7, linux/arm/v6, linux/riscv64, linux/ppc64le, linux/s390x",
        ),
        (
            "FROM --platform=$X a",
            "1:17 `$X` expands to nothing | pass the build argument, or give the `ARG` before `FROM` a default",
        ),
    ] {
        if expected.is_empty() {
            lower(text);
        } else {
            assert_eq!(error(text), expected, "{text}");
        }
    }
}

#[test]
fn an_unknown_target_names_the_stages() {
    let error = lower_with(MANY, &options(&[]), Some("exprot")).expect_err("unknown");
    assert_eq!((error.to_string().as_str(), error.span), ("no stage `exprot` in the file", None));
    assert_eq!(error.hint().as_deref(), Some("did you mean `export`? stages are tools, unused, build, export"));
    assert_eq!(
        lower_with("FROM a", &options(&[]), Some("x")).expect_err("unknown").hint().as_deref(),
        Some("stages are stage-0")
    );
    assert_eq!(lower_with("FROM a\nFROM b", &options(&[]), Some("stage-0")).expect("known").0.target.name, "stage-0");
}

#[test]
fn an_image_that_was_not_resolved_is_named() {
    let file = parse("f", "FROM a").expect("valid");
    let error = file
        .lower(&options(&[]), None, ARM64, &ResolvedImages::new(), &mut BuildGraph::new())
        .expect_err("not resolved");
    assert_eq!(error.to_string(), "image `a` was not resolved for linux/arm64");
}

#[test]
fn a_name_used_twice_means_the_last_before() {
    let (_, graph) = lower("FROM a AS x\nRUN 1\nFROM b AS x\nRUN 2\nFROM x\nRUN 3");
    assert_eq!(origins(&graph)[0], "Dockerfile:3-3 [x 1/2] FROM b");
    assert_eq!(graph.len(), 3);
}

#[test]
fn named_contexts_stand_in() {
    let mut options = options(&[]);
    options.contexts = [
        ("build".to_owned(), NamedContext::Local),
        ("docker.io/library/alpine".to_owned(), NamedContext::Image("mirror/alpine:3".to_owned())),
        ("src".to_owned(), NamedContext::Local),
    ]
    .into();
    let text = "FROM golang AS build\nRUN x\nFROM alpine:latest\nCOPY --from=build /a /b\nCOPY --from=src . /\n\
                RUN --mount=from=src,target=/s ls\n";
    assert_eq!(images(text, &options, None), ["mirror/alpine:3 linux/arm64"]);
    let (_, graph) = lower_with(text, &options, None).expect("lowers");
    assert_eq!(
        origins(&graph),
        [
            "Dockerfile:0-0 [ 0/0] load build".replace("Dockerfile", ""),
            ":0-0 [ 0/0] ".into(),
            "Dockerfile:1-1 [build 1/1] FROM build".into(),
            "Dockerfile:3-3 [stage-1 1/4] FROM mirror/alpine:3".into(),
            "Dockerfile:4-4 [stage-1 2/4] COPY --from=build /a /b".into(),
            "Dockerfile:5-5 [ 0/0] load src".into(),
            "Dockerfile:5-5 [stage-1 3/4] COPY --from=src . /".into(),
            "Dockerfile:6-6 [stage-1 4/4] RUN --mount=from=src,target=/s ls".into(),
        ]
    );
    let source = |index: usize| graph.iter().nth(index).map(|(_, vertex)| vertex.op.clone());
    assert_eq!(source(5), Some(Op::Source(Source::Local { name: "src".into() })));
}

#[test]
fn triggers_of_an_image_run_first_and_may_need_more() {
    let config = ImageConfig {
        on_build: vec!["COPY --from=tools:1 /t /t".into(), "RUN <<EOF\nmake $A\nEOF".into(), "ENV B=1".into()],
        ..ImageConfig::default()
    };
    let text = "FROM a\nARG A=1\nRUN own\nONBUILD RUN later";
    let file = parse("Dockerfile", text).expect("valid");
    let base = BaseImage { reference: "a".into(), platform: ARM64 };
    let mut images: ResolvedImages = [(base.clone(), resolved(&base, config))].into();
    let tools = BaseImage { reference: "tools:1".into(), platform: ARM64 };
    assert_eq!(file.missing_images(&options(&[]), None, ARM64, &images).expect("plan"), std::slice::from_ref(&tools));
    images.insert(tools.clone(), resolved(&tools, ImageConfig::default()));
    let mut graph = BuildGraph::new();
    let lowered = file.lower(&options(&[]), None, ARM64, &images, &mut graph).expect("lowers");
    assert_eq!(
        origins(&graph),
        [
            "Dockerfile:1-1 [stage-0 1/4] FROM a",
            "Dockerfile:1-1 [ 0/0] load tools:1",
            "Dockerfile:1-1 [stage-0 2/4] ONBUILD COPY --from=tools:1 /t /t",
            "Dockerfile:1-1 [stage-0 3/4] ONBUILD RUN <<EOF (make $A)",
            "Dockerfile:3-3 [stage-0 4/4] RUN own",
        ]
    );
    assert_eq!(lowered.target.config.on_build, ["RUN later"]);
    assert_eq!(lowered.target.config.env_value("B"), Some("1"));
}

#[test]
fn triggers_of_a_stage_run_in_stages_on_top() {
    let (lowered, graph) = lower("FROM a AS b\nONBUILD RUN t\nRUN own\nFROM b AS c\nRUN 1\nFROM c\nRUN 2");
    assert_eq!(
        origins(&graph),
        [
            "Dockerfile:1-1 [b 1/2] FROM a",
            "Dockerfile:3-3 [b 2/2] RUN own",
            "Dockerfile:2-2 [c 1/2] ONBUILD RUN t",
            "Dockerfile:5-5 [c 2/2] RUN 1",
            "Dockerfile:7-7 [stage-2 1/1] RUN 2",
        ]
    );
    assert_eq!(lowered.target.config.on_build, [""; 0]);
}

#[test]
fn a_bad_trigger_is_blamed_on_from() {
    for (trigger, expected) in [
        ("RNU x", "2:1 `ONBUILD RNU x` of the base image is invalid"),
        ("COPY --from=5 a b", "2:1 no stage with index 5 before this one"),
        ("WORKDIR ${X:?}", "2:1 cannot expand `${X:?}`"),
    ] {
        let config = ImageConfig { on_build: vec![trigger.into()], ..ImageConfig::default() };
        let file = parse("f", "\nFROM a").expect("valid");
        let base = BaseImage { reference: "a".into(), platform: ARM64 };
        let images: ResolvedImages = [(base.clone(), resolved(&base, config))].into();
        let error = file.lower(&options(&[]), None, ARM64, &images, &mut BuildGraph::new()).expect_err(trigger);
        assert_eq!(format!("{} {error}", error.span.expect("span")), expected);
    }
}

#[test]
fn no_cache_by_stage() {
    let text = "FROM a AS one\nRUN 1\nFROM b AS two\nCOPY --from=one /x /\nRUN 2\nWORKDIR /w";
    for (no_cache, expected) in [
        (NoCache::None, [false, false, false]),
        (NoCache::All, [true, true, true]),
        (NoCache::Stages(vec!["ONE".into()]), [true, false, false]),
        (NoCache::Stages(vec!["two".into(), "none".into()]), [false, true, true]),
    ] {
        let options = Options { no_cache, ..options(&[]) };
        let (_, graph) = lower_with(text, &options, None).expect("lowers");
        let flags: Vec<bool> = graph
            .iter()
            .filter(|(_, v)| v.origin().text.starts_with("RUN") || v.origin().text.starts_with("COPY"))
            .map(|(_, v)| v.no_cache)
            .collect();
        assert_eq!(flags, expected, "{:?}", options.no_cache);
    }
}

#[test]
fn a_chain_of_many_stages_needs_no_deep_stack() {
    use std::fmt::Write;
    let mut text = "FROM a AS s0\n".to_owned();
    for i in 1..3000 {
        writeln!(text, "FROM s{} AS s{i}", i - 1).expect("to a string");
    }
    assert_eq!(lower(&text).1.len(), 1);
}
