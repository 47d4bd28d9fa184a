use kiln_graph::Network;

use super::*;
use crate::Span;
use crate::ast::CommandLine;

/// The instructions of the only stage of `FROM a` and what follows.
fn stage(text: &str) -> Vec<Instruction> {
    let mut file = parse("f", &format!("FROM a\n{text}")).unwrap_or_else(|error| panic!("{text}: {error}"));
    file.stages.remove(0).instructions
}

fn only(text: &str) -> Command {
    let mut instructions = stage(text);
    assert_eq!(instructions.len(), 1, "{text}");
    instructions.remove(0).command
}

/// `line:column kind-free message | hint` of the error in `FROM a` and what follows.
fn error(text: &str) -> String {
    let error = parse("f", &format!("FROM a\n{text}")).expect_err(text);
    assert_eq!(error.file, "f");
    let place = error.span.map(|span| format!("{span} ")).unwrap_or_default();
    let hint = error.hint().map(|hint| format!(" | {hint}")).unwrap_or_default();
    format!("{place}{error}{hint}")
}

fn debug(command: &Command) -> String {
    match command {
        Command::Env(pairs) | Command::Label(pairs) => {
            let pairs = pairs.iter().map(|p| format!("<{}>=<{}>", p.name.value, p.value.value));
            pairs.collect::<Vec<_>>().join(" ")
        }
        Command::Arg(arguments) => {
            let arguments = arguments.iter().map(|a| match &a.default {
                Some(default) => format!("<{}>=<{}>", a.name.value, default.value),
                None => format!("<{}>", a.name.value),
            });
            arguments.collect::<Vec<_>>().join(" ")
        }
        Command::Copy(t) | Command::Add(t) => {
            let sources: Vec<_> = t.sources.iter().map(|s| s.value.as_str()).collect();
            format!("{sources:?} -> {}", t.dest.value)
        }
        Command::Volume(words) | Command::Expose(words) => {
            format!("{:?}", words.iter().map(|w| w.value.as_str()).collect::<Vec<_>>())
        }
        Command::Workdir(w) | Command::User(w) | Command::StopSignal(w) => w.value.clone(),
        Command::Run(run) => format!("{:?}", run.command),
        Command::Cmd(line) | Command::Entrypoint(line) => format!("{line:?}"),
        Command::Shell(shell) => format!("{shell:?}"),
        Command::Healthcheck(check) => format!("{:?} {:?} {:?}", check.test, check.interval, check.retries),
        Command::OnBuild(trigger) => format!("{:?}", trigger.trigger),
        Command::Maintainer(author) => author.clone(),
    }
}

#[test]
fn every_instruction_is_read() {
    for (text, expected) in [
        ("RUN a  b", r#"Shell("a  b")"#),
        ("run [\"a\", \"b c\"]", r#"Exec(["a", "b c"])"#),
        ("RUN [ a ]", r#"Shell("[ a ]")"#),
        ("RUN [\"a\"] x", r#"Shell("[\"a\"] x")"#),
        ("RUN ['a']", r#"Shell("['a']")"#),
        ("ENV a=b", "<a>=<b>"),
        ("ENV a=b c=\"d e\" f=g\\ h i='j k'", "<a>=<b> <c>=<\"d e\"> <f>=<g\\ h> <i>=<'j k'>"),
        ("ENV a b  c", "<a>=<b  c>"),
        ("ENV a b=c", "<a>=<b=c>"),
        ("ENV a=", "<a>=<>"),
        ("ENV a==b", "<a>=<=b>"),
        ("LABEL \"a.b\"=c d=e", "<\"a.b\">=<c> <d>=<e>"),
        ("LABEL a b", "<a>=<b>"),
        ("ARG a", "<a>"),
        ("ARG a b=c d= e=\"f g\"", "<a> <b>=<c> <d>=<> <e>=<\"f g\">"),
        ("COPY a b/ c/", r#"["a", "b/"] -> c/"#),
        ("COPY [\"a b\", \"c\"]", r#"["a b"] -> c"#),
        ("ADD a.tar /x", r#"["a.tar"] -> /x"#),
        ("WORKDIR /a b", "/a b"),
        ("USER me:us", "me:us"),
        ("STOPSIGNAL SIGINT", "SIGINT"),
        ("SHELL [\"/bin/bash\", \"-c\"]", r#"["/bin/bash", "-c"]"#),
        ("CMD a b", r#"Shell("a b")"#),
        ("CMD []", "Exec([])"),
        ("ENTRYPOINT [\"a\"]", r#"Exec(["a"])"#),
        ("EXPOSE 80 443/tcp", r#"["80", "443/tcp"]"#),
        ("VOLUME /a /b", r#"["/a", "/b"]"#),
        ("VOLUME [\"/a\", \"/b c\"]", r#"["/a", "/b c"]"#),
        ("HEALTHCHECK NONE", r#"["NONE"] None None"#),
        ("HEALTHCHECK --interval=5s --retries=3 CMD a b", r#"["CMD-SHELL", "a b"] Some(5000000000) Some(3)"#),
        ("HEALTHCHECK CMD [\"a\", \"b\"]", r#"["CMD", "a", "b"] None None"#),
        ("ONBUILD  RUN  a", r#""RUN  a""#),
        ("onbuild copy <<EOF /x\nhello\nEOF", "\"copy <<EOF /x\\nhello\\nEOF\""),
        ("MAINTAINER me <me@x>", "me <me@x>"),
    ] {
        assert_eq!(debug(&only(text)), expected, "{text}");
    }
}

#[test]
fn lines_continue() {
    for (text, expected) in [
        ("RUN a \\\n  b", "a   b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\  \t\n b", "a  b"),
        ("RUN a \\\n# comment\n  b", "a   b"),
        ("RUN a \\\n   # comment \\\n b", "a  b"),
        ("RUN a \\\n\n\n b", "a  b"),
        ("RUN a \\\r\n b\r\n", "a  b"),
        ("RUN a \\", "a"),
        ("RUN a \\\\", "a \\\\"),
        ("RUN \\\n a", "a"),
        ("RUN a # b", "a # b"),
    ] {
        let Command::Run(run) = only(text) else { panic!("{text}") };
        assert_eq!(run.command, CommandLine::Shell(expected.into()), "{text:?}");
    }
}

#[test]
fn directives_stand_at_the_top() {
    let file =
        parse("f", "\u{feff}# Syntax = docker/dockerfile:1\n#escape=`\n# check=skip=all\nFROM a\nRUN b `\n c\\\n")
            .expect("valid");
    assert_eq!(file.directives.syntax.as_deref(), Some("docker/dockerfile:1"));
    assert_eq!(file.directives.escape(), '`');
    assert_eq!(file.directives.check.as_deref(), Some("skip=all"));
    assert_eq!(file.stages[0].instructions[0].text, "RUN b  c\\");
    for late in
        ["# hello\n#escape=`\nFROM a", "\n#escape=`\nFROM a", "#other=1\n#escape=`\nFROM a", "FROM a\n#escape=`"]
    {
        assert_eq!(parse("f", late).expect(late).directives.escape(), '\\', "{late}");
    }
    for (text, expected) in [
        ("#escape=x\nFROM a", "1:1 invalid value `x` for `# escape`"),
        ("#escape=\\\n#escape=`\nFROM a", "2:1 parser directive `escape` given twice"),
        ("#syntax=a\n#syntax=b\nFROM a", "2:1 parser directive `syntax` given twice"),
    ] {
        let error = parse("f", text).expect_err(text);
        assert_eq!(format!("{} {error}", error.span.expect("span")), expected);
    }
}

#[test]
fn stages_and_global_arguments() {
    let text = "ARG A=1\narg B\nFROM --platform=$BUILDPLATFORM a:$A AS Base\nRUN x\nfrom base as final.1\n";
    let file = parse("f", text).expect("valid");
    assert_eq!(file.global_args.len(), 2);
    assert_eq!(file.stage_names(), ["base", "final.1"]);
    let base = &file.stages[0];
    assert_eq!(base.platform.as_ref().map(|p| p.value.as_str()), Some("$BUILDPLATFORM"));
    assert_eq!(base.base.span, Span { line: 3, column: 32, end_line: 3, end_column: 36 });
    assert_eq!(base.name.as_ref().map(|n| (n.value.as_str(), n.span.column)), Some(("Base", 40)));
    assert_eq!(parse("f", "FROM a\nFROM b").expect("valid").stage_names(), ["stage-0", "stage-1"]);
}

#[test]
fn places_survive_continuations() {
    let instructions =
        stage("RUN --mount=type=cache,\\\ntarget=/a \\\n  # no\n  --network=host \\\n  é b\nCOPY \\\n x y \\\n  z/\n");
    let Command::Run(run) = &instructions[0].command else { panic!() };
    assert_eq!(run.network, Network::Host);
    let target = run.mounts[0].options[1].value.as_ref().expect("value");
    assert_eq!((target.value.as_str(), target.span), ("/a", Span { line: 3, column: 8, end_line: 3, end_column: 10 }));
    assert_eq!(instructions[0].span, Span { line: 2, column: 1, end_line: 6, end_column: 6 });
    assert!(instructions[0].original.starts_with("RUN --mount=type=cache,\\\ntarget=/a \\\n  # no\n"));
    let Command::Copy(copy) = &instructions[1].command else { panic!() };
    let at = |word: &crate::Word| (word.span.line, word.span.column);
    assert_eq!(copy.sources.iter().map(at).collect::<Vec<_>>(), [(8, 2), (8, 4)]);
    assert_eq!(at(&copy.dest), (9, 3));
}

#[test]
fn flags_of_copy_and_add() {
    let command =
        only("COPY --from=x --chown=me:us --chmod=0644 --link --parents --exclude=*.a --exclude=\"b c\" d e/");
    let Command::Copy(copy) = command else { panic!() };
    let text = |word: &Option<crate::Word>| word.as_ref().map(|w| w.value.clone()).unwrap_or_default();
    assert_eq!([text(&copy.from), text(&copy.chown), text(&copy.chmod)], ["x", "me:us", "0644"]);
    assert_eq!((copy.link, copy.parents, copy.unpack), (true, true, None));
    assert_eq!(copy.excludes.iter().map(|w| w.value.as_str()).collect::<Vec<_>>(), ["*.a", "b c"]);
    let Command::Add(add) = only("ADD --checksum=sha256:1 --keep-git-dir --unpack=false --link=false a b") else {
        panic!()
    };
    assert_eq!(
        (text(&add.checksum).as_str(), add.keep_git_dir, add.unpack, add.link),
        ("sha256:1", true, Some(false), false)
    );
    let Command::Run(run) = only("RUN --security=insecure -- --x") else { panic!() };
    assert_eq!((run.privileged, run.command), (true, CommandLine::Shell("--x".into())));
}

#[test]
fn here_documents() {
    let Command::Run(run) = only("RUN <<EOF\n  a\n# not a comment\n\nEOF") else { panic!() };
    let first = &run.heredocs[0];
    assert_eq!((first.content.as_str(), first.expand, first.chomp), ("  a\n# not a comment\n\n", true, false));

    let Command::Run(run) = only("RUN 3<<-'E F' cat <<\"B\" <<<no\n\t\ta\n\tE F\nb\\\nB") else { panic!() };
    let [first, second] = run.heredocs.as_slice() else { panic!("{:?}", run.heredocs) };
    assert_eq!((first.name.as_str(), first.descriptor, first.expand, first.chomp), ("E F", 3, false, true));
    assert_eq!((first.text().as_str(), first.content.as_str()), ("a\n", "\t\ta\n"));
    assert_eq!((second.name.as_str(), second.expand, second.content.as_str()), ("B", false, "b\\\n"));

    let instructions = stage("COPY <<A <<B x /d/\n1\nA\n2\nB\nRUN y");
    let Command::Copy(copy) = &instructions[0].command else { panic!() };
    assert_eq!(copy.contents.iter().map(|h| h.content.as_str()).collect::<Vec<_>>(), ["1\n", "2\n"]);
    assert_eq!(copy.sources.len(), 1);
    assert_eq!((instructions[0].span.end_line, instructions[0].span.end_column), (6, 2));
    assert_eq!(instructions[1].span.line, 7);

    for plain in [
        "RUN echo $((1<<2))",
        "RUN [\"a\", \"<<EOF\"]",
        "RUN echo \"<<EOF\"",
        "RUN a <<<b",
        "ENV a=<<EOF",
        "CMD <<EOF",
        "RUN a \\<<EOF",
    ] {
        assert_eq!(stage(&format!("{plain}\nUSER b")).len(), 2, "{plain}");
    }
}

#[test]
fn errors_have_places_and_hints() {
    for (text, expected) in [
        ("RNU a", "2:1 unknown instruction `RNU` | did you mean `RUN`?"),
        (
            "RUN a\n\n  FETCH b",
            "4:3 unknown instruction `FETCH` | instructions are FROM, RUN, COPY, ADD, ARG, ENV, WORKDIR, USER, SHELL, LABEL, CMD, ENTRYPOINT, EXPOSE, VOLUME, STOPSIGNAL, HEALTHCHECK, ONBUILD, MAINTAINER",
        ),
        ("COPY --chwon=a b c", "2:6 unknown flag `--chwon` of `COPY` | did you mean `--chown`?"),
        ("RUN --secret x", "2:5 unknown flag `--secret` of `RUN` | `RUN` has --mount, --network, --security"),
        ("CMD --version", "2:5 unknown flag `--version` of `CMD` | `CMD` has no flags"),
        ("COPY --from=a --from=b c d", "2:15 flag `--from` given twice"),
        ("RUN --mount a", "2:5 flag `--mount` needs a value | write `--mount=VALUE`"),
        ("COPY --link=maybe a b", "2:13 invalid value `maybe` for `--link` | expected true or false"),
        ("RUN --network=lan a", "2:15 invalid value `lan` for `--network` | expected default, none or host"),
        ("RUN --security=no a", "2:16 invalid value `no` for `--security` | expected sandbox or insecure"),
        ("RUN", "2:1 `RUN` takes at least one argument"),
        ("RUN []", "2:1 `RUN` takes at least one argument"),
        ("COPY a", "2:1 `COPY` takes at least one source and a destination"),
        ("ENV a", "2:5 `a` is not of the form name=value | quote values that contain spaces: name=\"a b\""),
        ("ENV a=b c", "2:9 `c` is not of the form name=value | quote values that contain spaces: name=\"a b\""),
        ("ENV =b", "2:5 `ENV` with a blank name"),
        ("ARG =b", "2:5 `ARG` with a blank name"),
        ("ARG", "2:1 `ARG` takes at least one argument"),
        ("SHELL bash", "2:7 `SHELL` takes a JSON array of strings | write `SHELL [\"/bin/sh\", \"-c\"]`"),
        ("CMD [\"a\", 1]", "2:5 a JSON array of arguments may hold strings only"),
        ("VOLUME [\"\"]", "2:1 `VOLUME` takes at least one argument, and no empty ones"),
        ("HEALTHCHECK RUN a", "2:13 invalid value `RUN` for `HEALTHCHECK` | expected NONE or CMD"),
        ("HEALTHCHECK NONE a", "2:1 `HEALTHCHECK` takes nothing after `NONE`"),
        (
            "HEALTHCHECK --interval=1 CMD a",
            "2:24 invalid value `1` for `--interval` | expected a duration of at least 1ms, as in 1m30s",
        ),
        ("HEALTHCHECK --retries=-1 CMD a", "2:23 invalid value `-1` for `--retries` | expected a number, at least 1"),
        ("ONBUILD ONBUILD RUN a", "2:9 `ONBUILD` is not allowed as an `ONBUILD` trigger"),
        ("ONBUILD FROM a", "2:9 `FROM` is not allowed as an `ONBUILD` trigger"),
        ("ONBUILD RNU a", "2:9 unknown instruction `RNU` | did you mean `RUN`?"),
        ("FROM a b", "2:1 `FROM` takes an image, or an image, `AS` and a name"),
        (
            "FROM a AS 1b",
            "2:11 invalid stage name `1b` | a stage name starts with a letter and holds letters, digits, `-`, `_` and `.`",
        ),
        ("RUN <<EOF\na", "2:1 here-document `EOF` does not end | end it with a line that holds only `EOF`"),
        ("COPY a <<EOF\nEOF", "2:8 a here-document cannot be a destination"),
        (
            "COPY --from=$A b c",
            "2:13 variables are not expanded in `from`: `$A` | define a stage with `FROM ... AS name`, which may use global ARGs, and name it here",
        ),
        ("RUN --mount=type=cahce,target=/a b", "2:18 unknown mount type `cahce` | did you mean `cache`?"),
        ("RUN --mount=type=cache,tagret=/a b", "2:24 unknown mount option `tagret` | did you mean `target`?"),
        (
            "RUN --mount=type=cache,target b",
            "2:24 `target` is not of the form name=value | quote values that contain spaces: name=\"a b\"",
        ),
        ("RUN --mount=target=/a,sharing=locked b", "2:31 mount option `sharing` does not go with type `bind`"),
        (
            "RUN --mount=type=cache,target=/a,sharing=some b",
            "2:42 invalid value `some` for `sharing` | expected shared, private or locked",
        ),
        ("RUN --mount=type=cache,target=/a,mode=9 b", "2:39 invalid value `9` for `mode` | expected an octal number"),
        (
            "RUN --mount=type=secret b",
            "2:5 a secret mount needs `id`, `source` or `target`, and only one of `id` and `source`",
        ),
        (
            "RUN --mount=type=bind,from=$x,target=/a b",
            "2:28 variables are not expanded in `from`: `$x` | define a stage with `FROM ... AS name`, which may use global ARGs, and name it here",
        ),
        (
            "RUN --mount=type=tmpfs,target=/a,size=big b",
            "2:39 invalid value `big` for `size` | expected bytes, or a number with k, m or g",
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn a_file_needs_a_stage() {
    for (text, expected) in [
        ("", "no instructions in the file"),
        ("# only\n\n", "no instructions in the file"),
        ("ARG a", "no `FROM` in the file"),
        ("RUN a\nFROM b", "`RUN` before the first `FROM`"),
        ("\\", "no instructions in the file"),
    ] {
        assert_eq!(parse("f", text).expect_err(text).to_string(), expected, "{text:?}");
    }
}

#[test]
fn triggers_of_images_are_single_instructions() {
    assert_eq!(parse_trigger("RUN <<EOF\na\nEOF").expect("valid").text, "RUN <<EOF");
    for (text, expected) in [
        ("RUN a\nRUN b", "`ONBUILD` takes a single instruction"),
        ("FROM a", "`FROM` is not allowed as an `ONBUILD` trigger"),
        ("", "no instructions in the file"),
    ] {
        assert_eq!(parse_trigger(text).expect_err(text).to_string(), expected);
    }
}
