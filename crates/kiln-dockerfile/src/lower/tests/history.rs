//! History as BuildKit writes it: the expectations are what `docker buildx build` 0.29 made of the same text.

use super::*;

const TEXT: &str = r#"FROM alpine AS base
ARG FOO=bar
ARG EMPTY
RUN true
FROM base
ARG A=1 B
ENV C=3 D="two words"
ARG C
MAINTAINER me <x@y>
WORKDIR sub
WORKDIR /
ENTRYPOINT foo "x"
RUN ["true", "a b"]
RUN <<EOF
#!/bin/sh
true
EOF
RUN <<EOF
echo a
echo b
EOF
RUN --mount=type=cache,target=/c echo   spaced   text && \
    echo more
HEALTHCHECK --retries=3 --interval=90s CMD ["a"]
COPY --chmod=755 --chown=0:0 Dockerfile D* /x/
COPY <<EOF /h.txt
hello
EOF
LABEL x=y z="a b"
USER 1000
EXPOSE 90/udp 80
VOLUME /data
ONBUILD RUN echo x
STOPSIGNAL SIGINT
SHELL ["/bin/ash", "-c"]
CMD echo hi
"#;

#[test]
fn every_instruction_is_said_as_buildkit_says_it() {
    let (lowered, _) = lower_with(TEXT, &options(&[("B", "2")]), None).expect("lowers");
    let config = &lowered.target.config;
    let said: Vec<&str> = config.history.iter().map(|entry| entry.created_by.as_str()).collect();
    let run = |rest: &str| format!("RUN |5 FOO=bar EMPTY= A=1 B=2 C=3 {rest} # buildkit");
    let expected = [
        "ARG FOO=bar",
        "ARG EMPTY",
        "RUN |2 FOO=bar EMPTY= /bin/sh -c true # buildkit",
        "ARG A=1 B=2",
        "ENV C=3 D=two words",
        "ARG C",
        "MAINTAINER me <x@y>",
        "WORKDIR /sub",
        "WORKDIR /",
        r#"ENTRYPOINT ["/bin/sh" "-c" "foo \"x\""]"#,
        &run("true a b"),
        &run("/bin/sh -c /dev/pipes/EOF"),
        &run("/bin/sh -c echo a\necho b\n"),
        &run("/bin/sh -c echo   spaced   text &&     echo more"),
        r#"HEALTHCHECK &{["CMD" "a"] "1m30s" "0s" "0s" "0s" '\x03'}"#,
        "COPY --chown=0:0 --chmod=755 Dockerfile D* /x/ # buildkit",
        "COPY <<EOF /h.txt # buildkit",
        "LABEL x=y z=a b",
        "USER 1000",
        "EXPOSE [80/tcp 90/udp]",
        "VOLUME [/data]",
        "STOPSIGNAL SIGINT",
        "SHELL [/bin/ash -c]",
        r#"CMD ["/bin/ash" "-c" "echo hi"]"#,
    ];
    assert_eq!(said, expected);
    let with_files = config.history.iter().filter(|entry| entry.vertex.is_some()).count();
    assert_eq!(with_files, 8, "RUN, COPY and the WORKDIR that makes a folder");
    assert!(config.args_escaped);
}
