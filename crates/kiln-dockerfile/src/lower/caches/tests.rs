use kiln_graph::{Arch, BuildGraph, MountKind, Op, Platform, Sharing};

use super::super::{Options, ResolvedImage, ResolvedImages};
use crate::parse;

const PLATFORM: Platform = Platform::linux(Arch::Amd64);

fn lower(text: &str, auto_caches: bool) -> BuildGraph {
    let file = parse("Dockerfile", text).expect("valid");
    let options = Options { auto_caches, ..Options::new(PLATFORM) };
    let images = file.base_images(&options, None, PLATFORM).expect("a plan");
    let resolved = |id: String| ResolvedImage { id, config: kiln_graph::ImageConfig::default(), digest: None };
    let images: ResolvedImages = images.into_iter().map(|i| (i.clone(), resolved(i.reference))).collect();
    let mut graph = BuildGraph::new();
    file.lower(&options, None, PLATFORM, &images, &mut graph).expect("lowers");
    graph
}

/// `id at folder` of what is added to a file's commands.
fn added(text: &str) -> Vec<String> {
    let mut added = Vec::new();
    for (_, vertex) in lower(text, true).iter() {
        let Op::Exec(exec) = &vertex.op else { continue };
        for mount in &exec.mounts {
            match &mount.kind {
                MountKind::Cache(cache) if cache.added => added.push(format!("{} at {}", cache.id, mount.target)),
                _ => {}
            }
        }
    }
    added
}

/// What is added to one command, on an image that is called `i`.
fn to(command: &str) -> String {
    added(&format!("FROM i\n{command}\n")).join(", ")
}

const PIP: &str = "pip-i at /root/.cache/pip";

#[test]
fn a_tool_is_found_however_it_is_called() {
    for command in [
        "RUN pip install -r requirements.txt",
        "RUN pip3.12 --disable-pip-version-check install x",
        "RUN python -m pip install --upgrade pip",
        "RUN python3.11 -I -X utf8 -m pip wheel x",
        "RUN /opt/venv/bin/pip install x",
        "RUN python -m venv /v && . /v/bin/activate && pip install x",
        "RUN set -eux; if true; then pip install x; fi",
        "RUN for p in a b; do pip install $p || exit 1; done",
        "RUN (cd /src; pip install .)",
        "RUN [\"pip\", \"install\", \"x\"]",
        "RUN [\"bash\", \"-euo\", \"pipefail\", \"-c\", \"pip install x\"]",
        "RUN bash -lc 'pip install \"x>=1\"'",
        "RUN exec env -i A=1 timeout -k 5 60 pip install x",
        "RUN echo a b | xargs -n 1 pip install",
        "RUN echo \"$(pip install x)\"",
        "RUN case $A in a) pip install x;; esac",
        "RUN pip install x > /tmp/log 2>&1 &",
        "RUN <<EOF\nset -e\npip install x\nEOF",
        "RUN <<EOF\n#!/usr/bin/env bash\npip install x\nEOF",
        "RUN bash <<'EOF'\npip install x\nEOF",
        "RUN cat <<A > /a && pip install x\npip is not called here\nA",
        "SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN pip install x",
        "RUN pip install \\\n    # a remark\n    x",
        "RUN mkdir -p ~/.cache/pip && pip install x",
        "RUN pip install x && rm -rf /tmp/* ~/.cache/other",
        "RUN curl -s https://example.org/a.tar.gz | tar -xz -C / && pip install x",
    ] {
        assert_eq!(to(command), PIP, "{command}");
    }
}

#[test]
fn words_that_call_nothing_are_no_calls() {
    for command in [
        "RUN echo 'pip install x'",
        "RUN echo pip install x",
        "RUN # pip install x\n",
        "RUN ls /usr/bin/pip install",
        "RUN cp pip install /x/",
        "RUN pip --version",
        "RUN pip uninstall -y x",
        "RUN python install.py pip install",
        "RUN python -c 'import pip' -m pip install",
        "RUN cat <<EOF > /a\npip install x\nEOF",
        "RUN <<EOF\n#!/usr/bin/python3\npip install x\nEOF",
        "RUN <<EOF cat > /x\npip install x\nEOF",
        "RUN sudo pip install x",
        "RUN $TOOL install x",
        "SHELL [\"pwsh\", \"-Command\"]\nRUN pip install x",
        "RUN apt-get update",
    ] {
        assert_eq!(to(command), "", "{command}");
    }
}

#[test]
fn the_folder_is_the_one_that_the_tool_would_take() {
    for (command, folder) in [
        ("ENV HOME=/h\nRUN pip install x", "pip-i at /h/.cache/pip"),
        ("ENV PIP_CACHE_DIR=/c/pip\nRUN pip install x", "pip-i at /c/pip"),
        ("ARG XDG_CACHE_HOME=/x\nRUN pip install x", "pip-i at /x/pip"),
        ("RUN export PIP_CACHE_DIR=/e && pip install x", "pip-i at /e"),
        ("RUN PIP_CACHE_DIR=/e pip install x", "pip-i at /e"),
        ("RUN PIP_CACHE_DIR=$(mktemp -d) pip install x", ""),
        ("RUN pip install --cache-dir=/o x", "pip-i at /o"),
        ("RUN pip --cache-dir /o install x", "pip-i at /o"),
        ("WORKDIR /w\nRUN pip install --cache-dir rel x", "pip-i at /w/rel"),
        ("RUN uv pip install --system x", "uv-i at /root/.cache/uv"),
        ("ENV UV_CACHE_DIR=/u\nRUN uv sync --frozen", "uv-i at /u"),
        ("RUN python -m uv sync", "uv-i at /root/.cache/uv"),
        ("RUN ccache gcc -c a.c", "ccache at /root/.cache/ccache"),
        ("ENV PATH=/usr/lib/ccache:$PATH CCACHE_DIR=/cc\nRUN make -j4", "ccache at /cc"),
        ("ENV CC=\"ccache gcc\"\nRUN ./configure", "ccache at /root/.cache/ccache"),
        ("RUN cmake -DCMAKE_C_COMPILER_LAUNCHER=ccache .", "ccache at /root/.cache/ccache"),
        ("RUN gcc -c a.c", ""),
        ("RUN python3 -m nuitka --onefile main.py", "nuitka at /root/.cache/Nuitka"),
        ("ENV NUITKA_CACHE_DIR=/n\nRUN nuitka3 main.py", "nuitka at /n"),
        ("RUN cargo build --release", "cargo-registry at /root/.cargo/registry, cargo-git at /root/.cargo/git"),
        ("ENV CARGO_HOME=/c\nRUN cargo +nightly install x", "cargo-registry at /c/registry, cargo-git at /c/git"),
        ("RUN npm ci", "npm at /root/.npm"),
        ("ENV npm_config_cache=/n\nRUN npm install", "npm at /n"),
        (
            "RUN apt-get update && apt-get install -y gcc && rm -rf /var/lib/apt/lists/*",
            "apt-cache-i at /var/cache/apt",
        ),
        ("RUN apk update && apk add gcc", "apk at /var/cache/apk"),
        ("RUN apk add -U gcc", "apk at /var/cache/apk"),
    ] {
        assert_eq!(to(command), folder, "{command}");
    }
}

#[test]
fn a_cache_that_nobody_would_use_is_not_mounted() {
    for command in [
        "RUN pip install --no-cache-dir x",
        "ENV PIP_NO_CACHE_DIR=0\nRUN pip install x",
        "RUN PIP_NO_CACHE_DIR=1 pip install x",
        "RUN uv sync --no-cache",
        "ENV UV_NO_CACHE=1\nRUN uv sync",
        "RUN apk add --no-cache gcc",
        "ENV CCACHE_DISABLE=1\nRUN ccache gcc -c a.c",
    ] {
        assert_eq!(to(command), "", "{command}");
    }
}

#[test]
fn a_step_whose_result_could_change_gets_none() {
    for (why, command) in [
        ("a mount cannot be removed", "RUN pip install x && rm -rf ~/.cache"),
        ("the same", "RUN pip install x && rm -rf /root/.cache/*"),
        ("the same, by the working folder", "WORKDIR /root\nRUN pip install x; rm -rf .cache"),
        ("it is emptied", "RUN pip install x && pip cache purge"),
        ("it is copied", "RUN pip install x && cp -r /root/.cache /out"),
        ("it changes hands", "RUN pip install x && chown -R 1000 /root"),
        ("it is written to", "RUN pip install x && date > ~/.cache/pip/when"),
        ("links lead into it", "RUN uv sync --link-mode=symlink"),
        ("the program runs from it later", "RUN npx tsc --version && npm ci"),
        ("another user writes to it", "USER app\nRUN pip install x"),
        ("its home is not known", "USER 1000\nRUN pip install x"),
        ("the folder is not the user's", "USER 1000\nENV HOME=/h PIP_CACHE_DIR=/c\nRUN pip install x"),
        ("downloads are wanted", "RUN apt-get install -d -y gcc"),
        ("it empties itself", "RUN apt-get install -y gcc && apt-get clean"),
        ("it has settings", "ENV APT_CONFIG=/etc/my.conf\nRUN apt-get install -y gcc"),
        ("the index of an earlier step is needed", "RUN apk add gcc"),
        ("an earlier step is relied on", "RUN --network=none cargo build"),
        ("the same", "RUN cargo fetch\nRUN cargo build --offline"),
        ("a later step needs the index", "RUN apk update && apk add gcc\nRUN apk add make"),
        ("a later step reads it", "RUN pip install x\nRUN cp -r /root/.cache/pip /out"),
        ("a later stage reads it", "RUN pip install x\nFROM scratch\nCOPY --from=0 /root/.cache/ /"),
        (
            "a later step binds it",
            "RUN pip install x\nFROM i\nRUN --mount=from=0,source=/root/.cache/pip,target=/x true",
        ),
        ("it was filled", "COPY wheels /root/.cache/pip/wheels\nRUN pip install x"),
        ("the image keeps it", "VOLUME /root/.cache/pip\nRUN pip install x"),
    ] {
        assert_eq!(to(command), "", "{why}: {command}");
    }
}

#[test]
fn what_is_harmless_elsewhere_keeps_no_cache_away() {
    for command in [
        "RUN pip install x\nRUN rm -rf /root/.cache",
        "RUN pip install x\nRUN chown -R 1000 /root && find / -name x",
        "RUN pip install x\nFROM scratch\nCOPY --from=0 /root/.local /root/.local",
        "RUN pip install x\nFROM scratch\nCOPY --from=0 / /",
        "COPY . /root/\nRUN pip install x",
    ] {
        assert_eq!(to(command), PIP, "{command}");
    }
    assert_eq!(to("RUN apk add -U gcc\nRUN apk add --no-cache make"), "apk at /var/cache/apk");
}

#[test]
fn mounts_of_the_file_come_first() {
    for target in ["/root/.cache/pip", "/root/.cache", "/root/.cache/pip/http"] {
        assert_eq!(to(&format!("RUN --mount=type=cache,target={target} pip install x")), "");
    }
    assert_eq!(to("RUN --mount=type=cache,target=/root/.cache/pip pip install x && npm ci"), "npm at /root/.npm");
}

#[test]
fn another_user_gets_a_volume_of_its_own_and_folders_that_it_owns() {
    let graph = lower("FROM i\nENV HOME=/home/app\nUSER 1000:50\nRUN pip install x\nUSER app\nRUN npm ci\n", true);
    let execs = graph.iter().filter_map(|(_, vertex)| match &vertex.op {
        Op::Exec(exec) => Some((exec, &graph.vertex(vertex.inputs[0]).op)),
        _ => None,
    });
    let [pip, npm] = execs.collect::<Vec<_>>().try_into().expect("two");
    let cache = |exec: &kiln_graph::Exec| match &exec.mounts.as_slice() {
        [mount] => match &mount.kind {
            MountKind::Cache(cache) => cache.clone(),
            _ => panic!("{mount:?}"),
        },
        mounts => panic!("{mounts:?}"),
    };
    let by_number = cache(pip.0);
    assert_eq!((by_number.id.as_str(), by_number.mode, by_number.uid, by_number.gid), ("pip-i-1000", None, 1000, 50));
    let by_name = cache(npm.0);
    assert_eq!((by_name.id.as_str(), by_name.mode, by_name.uid), ("npm-app", Some(0o777), 0));
    let Op::File(file) = pip.1 else { panic!("{:?}", pip.1) };
    let made = format!("{:?}", file.actions);
    assert!(made.contains("/home/app/.cache\"") && made.contains("1000:50"), "{made}");
}

#[test]
fn apt_is_told_to_keep_what_it_downloads_and_nuitka_what_to_forget() {
    let graph = lower("FROM i\nRUN apt-get install -y gcc\nRUN python -m nuitka a.py\n", true);
    let execs: Vec<_> =
        graph.iter().filter_map(|(_, v)| if let Op::Exec(exec) = &v.op { Some(exec) } else { None }).collect();
    let file = &execs[0].files[0];
    assert!(execs[0].env.contains(&("APT_CONFIG".to_owned(), file.path.clone())));
    assert!(String::from_utf8_lossy(&file.data).contains("Dir::Cache::archives"));
    let MountKind::Cache(cache) = &execs[0].mounts[0].kind else { panic!() };
    assert_eq!(cache.sharing, Sharing::Locked);
    assert_eq!(execs[1].mounts.iter().filter(|m| matches!(m.kind, MountKind::Tmpfs { .. })).count(), 4);
    assert!(execs[1].env.iter().all(|(name, _)| name != "APT_CONFIG"));
}

#[test]
fn nothing_is_added_unless_it_is_asked_for_and_nothing_else_changes() {
    let text = "FROM i\nENV HOME=/h\nUSER 1\nRUN pip install x\nUSER 0\nRUN apt-get install -y gcc\nCOPY a /b\n";
    let (off, on) = (lower(text, false), lower(text, true));
    let mounts = |graph: &BuildGraph| {
        graph.iter().map(|(_, v)| if let Op::Exec(exec) = &v.op { exec.mounts.len() } else { 0 }).sum::<usize>()
    };
    assert_eq!((mounts(&off), mounts(&on)), (0, 2));
    let history = |auto_caches| {
        let file = parse("Dockerfile", text).expect("valid");
        let options = Options { auto_caches, ..Options::new(PLATFORM) };
        let image = file.base_images(&options, None, PLATFORM).expect("a plan").remove(0);
        let resolved = ResolvedImage { id: "i".into(), config: kiln_graph::ImageConfig::default(), digest: None };
        let images = [(image, resolved)].into();
        let lowered = file.lower(&options, None, PLATFORM, &images, &mut BuildGraph::new()).expect("lowers");
        let config = lowered.target.config;
        let said: Vec<String> = config.history.iter().map(|entry| entry.created_by.clone()).collect();
        (said, config.env, lowered.commands.iter().map(|c| (c.stage, c.step)).collect::<Vec<_>>())
    };
    assert_eq!(history(false), history(true));
}

#[test]
fn no_text_is_too_strange() {
    for command in [
        "RUN pip install \"x",
        "RUN pip install $(",
        "RUN ${",
        "RUN `",
        "RUN cat <<",
        "RUN pip install ${A:-${B}}",
        "RUN ))((",
        "RUN $",
        "RUN \\",
        "RUN pip install x <<EOF",
        "RUN > ",
        "RUN a='",
        "RUN ~",
        "RUN env",
        "RUN [\"\"]",
        "RUN sh -c",
        "RUN eval",
        "RUN -m pip",
    ] {
        if parse("Dockerfile", &format!("FROM i\n{command}\n")).is_ok() {
            to(command);
        }
    }
    let deep = "sh -c '".repeat(50);
    to(&format!("RUN {deep}"));
    to(&format!("RUN {}", "$(".repeat(2000)));
}
