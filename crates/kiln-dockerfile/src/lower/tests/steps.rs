use super::*;

/// The environment of the last step, without `PATH`.
fn env(text: &str, args: &[(&str, &str)]) -> Vec<String> {
    let (_, graph) = lower_with(text, &options(args), None).unwrap_or_else(|error| panic!("{text}: {error}"));
    let env = last_exec(&graph).env.iter().filter(|(name, _)| name != "PATH");
    env.map(|(name, value)| format!("{name}={value}")).collect()
}

#[test]
fn arguments_and_variables() {
    for (text, args, expected) in [
        ("FROM a\nARG A\nRUN x", &[][..], &[][..]),
        ("FROM a\nARG A\nRUN x", &[("A", "1")], &["A=1"]),
        ("FROM a\nARG A=0\nRUN x", &[("A", "1")], &["A=1"]),
        ("FROM a\nARG A=0\nRUN x", &[("A", "")], &["A="]),
        ("FROM a\nARG A=0 B=$A C=${A}1\nRUN x", &[], &["A=0", "B=0", "C=01"]),
        ("FROM a\nARG A=\"b c\"\nRUN x", &[], &["A=b c"]),
        ("FROM a\nARG A\nRUN x", &[("A", "$B \"c\"")], &["A=$B \"c\""]),
        // Before the first FROM: only by redeclaring.
        ("ARG A=1\nFROM a\nRUN x", &[], &[]),
        ("ARG A=1\nFROM a\nARG A\nRUN x", &[], &["A=1"]),
        ("ARG A=1\nFROM a\nARG A=2\nRUN x", &[], &["A=2"]),
        ("ARG A=1\nARG B=${A}0\nFROM a\nARG B\nRUN x", &[("A", "2")], &["B=20"]),
        ("ARG A=1\nFROM a\nARG B=$A\nRUN x", &[], &["B="]),
        // An argument lives from its line to the end of its stage, and in stages on top.
        ("FROM a\nARG A=1\nFROM b\nRUN x", &[], &[]),
        ("FROM a AS s\nARG A=1\nFROM s\nRUN x", &[], &["A=1"]),
        // ENV after ARG wins; so does ARG after ENV, as in BuildKit.
        ("FROM a\nARG A=1\nENV A=2\nRUN x", &[], &["A=2"]),
        ("FROM a\nARG A\nENV A=${A:-2}\nRUN x", &[("A", "3")], &["A=3"]),
        ("FROM a\nENV A=2\nARG A=1\nRUN x", &[], &["A=1"]),
        ("FROM a\nENV A=2\nARG A\nRUN x", &[], &["A=2"]),
        // One line sees the values from before it.
        ("FROM a\nENV A=1\nENV A=2 B=$A\nENV C=$A\nRUN x", &[], &["A=2", "B=1", "C=2"]),
        ("FROM a\nENV A hello  world\nENV B 'x' \"y\"\nRUN x", &[], &["A=hello  world", "B=x y"]),
        ("FROM a\nENV A='$B' C=\"$A\" D=a\\ b E=\\$A\nRUN x", &[], &["A=$B", "C=", "D=a b", "E=$A"]),
        ("# escape=`\nFROM a\nENV A=a` b B=c\\d\nRUN x", &[], &["A=a b", "B=c\\d"]),
        // Platform arguments exist, but must be declared.
        ("FROM a\nRUN x", &[], &[]),
        (
            "FROM a\nARG TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT\nRUN x",
            &[],
            &["TARGETPLATFORM=linux/arm64", "TARGETOS=linux", "TARGETARCH=arm64", "TARGETVARIANT="],
        ),
        (
            "FROM a\nARG BUILDPLATFORM BUILDARCH TARGETSTAGE\nRUN x",
            &[],
            &["BUILDPLATFORM=linux/amd64", "BUILDARCH=amd64", "TARGETSTAGE=default"],
        ),
        ("FROM a AS b\nARG TARGETSTAGE\nRUN x", &[], &["TARGETSTAGE=b"]),
        ("FROM a\nARG TARGETARCH\nRUN x", &[("TARGETARCH", "mine")], &["TARGETARCH=mine"]),
        // Proxies reach steps another way, unless they are declared.
        ("FROM a\nRUN x", &[("HTTP_PROXY", "p")], &[]),
        ("FROM a\nARG HTTP_PROXY\nRUN x", &[("HTTP_PROXY", "p")], &["HTTP_PROXY=p"]),
    ] {
        assert_eq!(env(text, args), expected, "{text}");
    }
}

#[test]
fn the_environment_of_the_image_comes_first() {
    let config = ImageConfig {
        env: vec![("PATH".into(), "/opt".into()), ("LANG".into(), "C".into())],
        working_dir: "/home".into(),
        user: "me".into(),
        shell: Some(vec!["/bin/bash".into(), "-c".into()]),
        ..ImageConfig::default()
    };
    let (lowered, graph) = lower_on(&config, "FROM a\nARG X=1\nENV PATH=/x:$PATH NEW=2\nRUN y\nWORKDIR z");
    let step = last_exec(&graph);
    let env: Vec<String> = step.env.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(env, ["PATH=/x:/opt", "LANG=C", "X=1", "NEW=2"]);
    assert_eq!((step.cwd.as_str(), step.user.as_str()), ("/home", "me"));
    assert_eq!(step.argv, ["/bin/bash", "-c", "y"]);
    let env: Vec<&str> = lowered.target.config.env.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(env, ["PATH", "LANG", "NEW"]);
    assert_eq!(lowered.target.config.working_dir, "/home/z");
}

#[test]
fn commands() {
    for (text, expected) in [
        ("RUN a  b", &["/bin/sh", "-c", "a  b"][..]),
        ("RUN [\"a\", \"$B\"]", &["a", "$B"]),
        ("SHELL [\"/bin/bash\", \"-eo\", \"pipefail\", \"-c\"]\nRUN a", &["/bin/bash", "-eo", "pipefail", "-c", "a"]),
        ("RUN <<EOF\na\nb $C\nEOF", &["/bin/sh", "-c", "a\nb $C\n"]),
        ("RUN <<-EOF\n\t\ta\n\tb\nEOF", &["/bin/sh", "-c", "a\nb\n"]),
        ("RUN <<EOF cat\na\nEOF", &["/bin/sh", "-c", "<<EOF cat\na\nEOF"]),
        ("RUN cat <<-A - <<B\n\ta\nA\nb\nB", &["/bin/sh", "-c", "cat <<-A - <<B\n\ta\nA\nb\nB"]),
        ("RUN <<A <<B\na\nA\nb\nB", &["/bin/sh", "-c", "<<A <<B\na\nA\nb\nB"]),
        ("SHELL [\"/bin/awk\"]\nRUN <<EOF\nBEGIN {}\nEOF", &["/bin/awk", "BEGIN {}\n"]),
        ("RUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF", &["/bin/sh", "-c", "/dev/pipes/EOF"]),
    ] {
        let (_, graph) = lower(&format!("FROM a\n{text}"));
        assert_eq!(last_exec(&graph).argv, expected, "{text}");
    }
}

#[test]
fn a_script_is_a_file_of_its_step() {
    let (_, graph) = lower("FROM a\nRUN <<-EOF\n\t#!/bin/awk -f\n\tBEGIN {}\n\tEOF");
    let step = last_exec(&graph);
    let [file] = step.files.as_slice() else { panic!("{:?}", step.files) };
    assert_eq!((file.path.as_str(), file.mode), ("/dev/pipes/EOF", 0o755));
    assert_eq!(file.data, b"#!/bin/awk -f\nBEGIN {}\n");
    assert_eq!(origins(&graph)[1], "Dockerfile:2-5 [stage-0 2/2] RUN <<-EOF (#!/bin/awk -f...)");
}

#[test]
fn mounts() {
    let before = "FROM a AS s\nFROM b\nARG CACHE=/c\nWORKDIR /w\n";
    for (mount, expected) in [
        ("target=/x", "/x ro bind 1:/"),
        ("type=bind,source=sub/../dir,dst=x,rw", "/w/x rw bind 1:/dir"),
        ("from=s,source=/bin,target=/x", "/x ro bind 1:/bin"),
        ("from=scratch,target=/x,readwrite=true", "/x rw bind 1:/"),
        ("type=cache,target=/root/.cache/pip/", "/root/.cache/pip rw cache /root/.cache/pip Shared None 0:0 None"),
        ("type=cache,target=rel", "/w/rel rw cache rel Shared None 0:0 None"),
        (
            "type=cache,id=i,target=$CACHE/x,sharing=locked,mode=0700,uid=1,gid=2,ro",
            "/c/x ro cache i Locked Some(448) 1:2 None",
        ),
        (
            "type=cache,target=/x,from=s,source=seed,sharing=private",
            "/x rw cache /x Private None 0:0 Some((1, \"/seed\"))",
        ),
        ("type=tmpfs,target=/x,size=64m", "/x rw tmpfs Some(67108864)"),
        ("type=tmpfs,target=/x", "/x rw tmpfs None"),
        ("type=secret,id=tok", "/run/secrets/tok ro secret tok false None true 400 0:0"),
        ("type=secret,id=tok,required,mode=0440,uid=5", "/run/secrets/tok ro secret tok true None true 440 5:0"),
        ("type=secret,target=/a/key", "/a/key ro secret key false None true 400 0:0"),
        ("type=secret,id=tok,env=TOKEN", "/run/secrets/tok ro secret tok false Some(\"TOKEN\") false 400 0:0"),
        ("type=secret,id=tok,env=TOKEN,target=/t", "/t ro secret tok false Some(\"TOKEN\") true 400 0:0"),
        ("type=secret,src=dir/tok", "/run/secrets/tok ro secret dir/tok false None true 400 0:0"),
        ("type=ssh", "/run/buildkit/ssh_agent.0 ro ssh default false 600 0:0"),
        ("type=ssh,id=x,target=/s,required=true,mode=0666,uid=3", "/s ro ssh x true 666 3:0"),
    ] {
        let (_, graph) = lower(&format!("{before}RUN --mount={mount} x"));
        let [mount_] = last_exec(&graph).mounts.as_slice() else { panic!("{mount}") };
        let kind = match &mount_.kind {
            MountKind::Bind { input, source } => format!("bind {input}:{source}"),
            MountKind::Cache(c) => {
                format!("cache {} {:?} {:?} {}:{} {:?}", c.id, c.sharing, c.mode, c.uid, c.gid, c.from)
            }
            MountKind::Tmpfs { size } => format!("tmpfs {size:?}"),
            MountKind::Secret(s) => {
                format!("secret {} {} {:?} {} {:o} {}:{}", s.id, s.required, s.env, s.file, s.mode, s.uid, s.gid)
            }
            MountKind::Ssh { id, required, mode, uid, gid } => format!("ssh {id} {required} {mode:o} {uid}:{gid}"),
        };
        let access = if mount_.readonly { "ro" } else { "rw" };
        assert_eq!(format!("{} {access} {kind}", mount_.target), expected, "{mount}");
    }
}

#[test]
fn mounts_share_inputs_and_number_agents() {
    let (_, graph) = lower(
        "FROM a AS s\nFROM b\nRUN --mount=from=s,target=/1 --mount=target=/2 --mount=from=s,target=/3 --mount=type=ssh --mount=type=ssh,id=x y",
    );
    let (_, vertex) = graph.iter().last().expect("a step");
    assert_eq!(vertex.inputs.len(), 3);
    let targets: Vec<&str> = exec(vertex).mounts.iter().map(|m| m.target.as_str()).collect();
    assert_eq!(targets, ["/1", "/2", "/3", "/run/buildkit/ssh_agent.0", "/run/buildkit/ssh_agent.1"]);
    let inputs: Vec<_> = exec(vertex)
        .mounts
        .iter()
        .filter_map(|m| match m.kind {
            MountKind::Bind { input, .. } => Some(input),
            _ => None,
        })
        .collect();
    assert_eq!(inputs, [1, 2, 1]);
}

#[test]
fn texts_for_people() {
    for (text, expected) in [
        ("ARG A=1\nRUN echo  $A \\\n   '$A' \"x  $A\" $B", "RUN echo 1 '$A' \"x  1\" $B"),
        ("RUN --mount=type=secret,id=t,env=T echo $T", "RUN --mount=type=secret,id=t,env=T echo ****"),
        ("run it's  fine", "RUN it's  fine"),
        ("ARG A=1\nworkdir /x/$A", "WORKDIR /x/1"),
        ("RUN [\"a\", \"b\"]", "RUN [\"a\", \"b\"]"),
        ("RUN <<EOF\n\necho hi\nEOF", "RUN <<EOF (echo hi)"),
    ] {
        let (_, graph) = lower(&format!("FROM a\n{text}"));
        assert_eq!(graph.iter().last().expect("a step").1.origin().text, expected, "{text}");
    }
}

#[test]
fn configuration() {
    let base = ImageConfig {
        cmd: Some(vec!["base".into()]),
        entrypoint: Some(vec!["entry".into()]),
        exposed_ports: vec!["9/tcp".into()],
        labels: [("l".to_owned(), "0".to_owned())].into(),
        ..ImageConfig::default()
    };
    let (lowered, graph) = lower_on(
        &base,
        "FROM a\nARG V=1\nLABEL l=$V \"m n\"='x y'\nEXPOSE 80 $V-2/udp 80/tcp\nVOLUME /v$V [\"x\"]\nVOLUME [\"/a b\", \"/v1\"]\nUSER u$V\n\
         STOPSIGNAL SIGINT\nHEALTHCHECK --timeout=3s CMD curl $V\nMAINTAINER me\nSHELL [\"/bin/bash\", \"-c\"]\nCMD run $V\nONBUILD RUN x\n",
    );
    let config = lowered.target.config;
    assert_eq!(graph.len(), 1);
    assert_eq!(config.labels, [("l".to_owned(), "1".to_owned()), ("m n".to_owned(), "x y".to_owned())].into());
    assert_eq!(config.exposed_ports, ["1/udp", "2/udp", "80/tcp", "9/tcp"]);
    assert_eq!(config.volumes, ["/v1", "[x]", "/a b"]);
    assert_eq!((config.user.as_str(), config.stop_signal.as_deref()), ("u1", Some("SIGINT")));
    let check = config.healthcheck.expect("health check");
    assert_eq!((check.test, check.timeout), (vec!["CMD-SHELL".to_owned(), "curl $V".to_owned()], Some(3_000_000_000)));
    assert_eq!(config.author.as_deref(), Some("me"));
    assert_eq!(config.cmd.expect("cmd"), ["/bin/bash", "-c", "run $V"]);
    assert_eq!(config.entrypoint.expect("entrypoint"), ["entry"]);
    assert_eq!(config.on_build, ["RUN x"]);
}

#[test]
fn an_entrypoint_drops_the_command_of_the_base() {
    let base =
        ImageConfig { cmd: Some(vec!["base".into()]), entrypoint: Some(vec!["e".into()]), ..ImageConfig::default() };
    for (text, cmd, entrypoint) in [
        ("", Some("base"), Some("e")),
        ("ENTRYPOINT [\"x\"]", None, Some("x")),
        ("CMD [\"c\"]\nENTRYPOINT [\"x\"]", Some("c"), Some("x")),
        ("ENTRYPOINT [\"x\"]\nCMD [\"c\"]", Some("c"), Some("x")),
        ("ENTRYPOINT []", None, None),
    ] {
        let config = lower_on(&base, &format!("FROM a\n{text}")).0.target.config;
        assert_eq!(config.cmd.map(|c| c.join(" ")).as_deref(), cmd, "{text}");
        assert_eq!(config.entrypoint.map(|c| c.join(" ")).as_deref(), entrypoint, "{text}");
    }
}

#[test]
fn mistakes_that_show_when_values_are_known() {
    for (text, expected) in [
        (
            "ENV A=\"${B:?set B}\"",
            "2:7 cannot expand `\"${B:?set B}\"`: B: set B | pass `--build-arg B=VALUE`, or set it with ENV or ARG",
        ),
        ("WORKDIR 'a", "2:9 cannot expand `'a`: single quote does not close | escape a quote that is meant literally"),
        ("EXPOSE 80:x", "2:8 invalid value `80:x` for `EXPOSE` | expected port[-port][/protocol]"),
        (
            "STOPSIGNAL SIGNONE",
            "2:12 invalid value `SIGNONE` for `STOPSIGNAL` | expected a signal's name or number, as in SIGTERM",
        ),
        ("RUN --mount=type=bind x", "2:5 invalid mount target ``"),
        ("RUN --mount=type=cache,target=/a/.. x", "2:5 invalid mount target `/a/..`"),
        ("ARG T=chace\nRUN --mount=type=$T,target=/x y", "3:18 unknown mount type `chace` | did you mean `cache`?"),
    ] {
        assert_eq!(error(&format!("FROM a\n{text}")), expected, "{text}");
    }
}

#[test]
fn warnings() {
    let found = |text: &str, args: &[(&str, &str)]| -> Vec<String> {
        let (lowered, _) = lower_with(text, &options(args), None).expect("lowers");
        let warnings = lowered.warnings.iter();
        warnings
            .map(|w| format!("{} {} {}", w.span.map(|s| s.to_string()).unwrap_or_default(), w.rule, w.message))
            .collect()
    };
    for (text, args, expected) in [
        ("FROM a\nENV A=$PAHT", &[][..], &["2:7 UndefinedVar variable `PAHT` is not set (did you mean `PATH`?)"][..]),
        (
            "FROM a\nCOPY $X y\nWORKDIR /$X",
            &[],
            &["2:6 UndefinedVar variable `X` is not set", "3:9 UndefinedVar variable `X` is not set"],
        ),
        ("FROM a\nARG X\nCOPY $X y", &[], &[]),
        ("FROM a\nCOPY ${X:-a} y", &[], &["2:6 UndefinedVar variable `X` is not set"]),
        ("FROM a\nRUN $X", &[], &[]),
        ("FROM a\nRUN --mount=type=cache,target=/c$X y", &[], &["2:31 UndefinedVar variable `X` is not set"]),
        ("ARG X=1\nFROM a\nCOPY $X y", &[], &["3:6 UndefinedVar variable `X` is not set"]),
        (
            "FROM a\nARG ARCH",
            &[("ARCK", "1")],
            &[" UndeclaredBuildArg build argument `ARCK` is not declared by any `ARG` (did you mean `ARCH`?)"],
        ),
        (
            "FROM a AS b\nARG A\nFROM c",
            &[("A", "1"), ("http_proxy", "x"), ("TARGETARCH", "x"), ("BUILDKIT_SYNTAX", "x")],
            &[],
        ),
        ("FROM a\nONBUILD ARG A", &[("A", "1")], &[]),
        ("# check=skip=UndefinedVar\nFROM a\nENV A=$B", &[], &[]),
    ] {
        assert_eq!(found(text, args), expected, "{text}");
    }
}

#[test]
fn proxies_come_in_both_cases() {
    let proxies = options(&[("HTTP_PROXY", "p"), ("no_proxy", "q"), ("OTHER", "r")]).proxy_env();
    let proxies: Vec<String> = proxies.into_iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(proxies, ["HTTP_PROXY=p", "NO_PROXY=q", "http_proxy=p", "no_proxy=q"]);
}

#[test]
fn labels_of_the_command_line_win() {
    let mut options = options(&[]);
    options.labels = [("a".to_owned(), "2".to_owned())].into();
    let (lowered, _) = lower_with("FROM x\nLABEL a=1 b=1", &options, None).expect("lowers");
    assert_eq!(
        lowered.target.config.labels,
        [("a".to_owned(), "2".to_owned()), ("b".to_owned(), "1".to_owned())].into()
    );
}
