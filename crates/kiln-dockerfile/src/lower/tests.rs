use kiln_graph::{Arch, Chmod, FileAction, MountKind, Op, Remote, Sharing, Source, Vertex};

use super::*;
use crate::parse;

const AMD64: Platform = Platform::linux(Arch::Amd64);
const ARM64: Platform = Platform::linux(Arch::Arm64);

/// Resolves every image to an id made of its reference and platform, with an empty configuration.
fn resolved(image: &BaseImage, config: ImageConfig) -> ResolvedImage {
    ResolvedImage { id: format!("id of {} {}", image.reference, image.platform), config, digest: None }
}

fn resolve(file: &Dockerfile, options: &Options, target: Option<&str>, platform: Platform) -> ResolvedImages {
    let images = file.base_images(options, target, platform).expect("plan");
    images.into_iter().map(|image| (image.clone(), resolved(&image, ImageConfig::default()))).collect()
}

fn options(args: &[(&str, &str)]) -> Options {
    let mut options = Options::new(AMD64);
    options.build_args = args.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    options
}

fn lower_with(text: &str, options: &Options, target: Option<&str>) -> Result<(Lowered, BuildGraph), Error> {
    let file = parse("Dockerfile", text)?;
    file.base_images(options, target, ARM64)?;
    let images = resolve(&file, options, target, ARM64);
    let mut graph = BuildGraph::new();
    Ok((file.lower(options, target, ARM64, &images, &mut graph)?, graph))
}

/// Lowers with images of this configuration.
fn lower_on(config: &ImageConfig, text: &str) -> (Lowered, BuildGraph) {
    let file = parse("Dockerfile", text).expect("valid");
    let options = options(&[]);
    let mut images = ResolvedImages::new();
    loop {
        let missing = file.missing_images(&options, None, ARM64, &images).expect("plan");
        if missing.is_empty() {
            break;
        }
        images.extend(missing.into_iter().map(|image| (image.clone(), resolved(&image, config.clone()))));
    }
    let mut graph = BuildGraph::new();
    (file.lower(&options, None, ARM64, &images, &mut graph).expect("lowers"), graph)
}

/// `line:column message | hint` of what goes wrong in lowering.
fn error(text: &str) -> String {
    let error = lower_with(text, &options(&[]), None).expect_err(text);
    let place = error.span.map(|span| format!("{span} ")).unwrap_or_default();
    let hint = error.hint().map(|hint| format!(" | {hint}")).unwrap_or_default();
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{place}{error}{cause}{hint}")
}

fn lower(text: &str) -> (Lowered, BuildGraph) {
    lower_with(text, &options(&[]), None).expect("lowers")
}

fn origins(graph: &BuildGraph) -> Vec<String> {
    graph
        .iter()
        .map(|(_, vertex)| {
            let origin = vertex.origin();
            format!(
                "{}:{}-{} [{} {}/{}] {}",
                origin.file, origin.line, origin.end_line, origin.stage, origin.step, origin.steps, origin.text
            )
        })
        .collect()
}

fn exec(vertex: &Vertex) -> &kiln_graph::Exec {
    match &vertex.op {
        Op::Exec(exec) => exec,
        other => panic!("not an exec: {other:?}"),
    }
}

fn last_exec(graph: &BuildGraph) -> &kiln_graph::Exec {
    let execs = graph.iter().filter(|(_, vertex)| matches!(vertex.op, Op::Exec(_)));
    execs.map(|(_, vertex)| exec(vertex)).last().expect("an exec")
}

mod files;
mod history;
mod stages;
mod steps;

const GUIDE: &str = include_str!("tests/guide.Dockerfile");

#[test]
fn the_guide_lowers_exactly() {
    let (lowered, graph) =
        lower_with(GUIDE, &options(&[("ARCH", "arm64"), ("ENABLE_LTO", "no")]), Some("export")).expect("lowers");
    assert_eq!(lowered.warnings, []);
    assert_eq!(
        origins(&graph),
        [
            "Dockerfile:1-1 [builder 1/8] FROM alpine:3.20",
            "Dockerfile:2-4 [builder 2/8] RUN apk add --no-cache python3 py3-pip build-base python3-dev gcc g++ musl-dev \
             patchelf ccache linux-headers libffi-dev openssl-dev rust cargo git make",
            "Dockerfile:6-6 [builder 3/8] RUN python3 -m venv /venv",
            "Dockerfile:8-8 [builder 4/8] WORKDIR /src",
            ":0-0 [ 0/0] load build context",
            "Dockerfile:9-9 [builder 5/8] COPY requirements.txt .",
            "Dockerfile:10-13 [builder 6/8] RUN --mount=type=cache,target=/root/.cache/pip pip install --upgrade pip && \
             pip install -r requirements.txt && pip install nuitka ordered-set",
            "Dockerfile:14-14 [builder 7/8] COPY . .",
            "Dockerfile:16-26 [builder 8/8] RUN --mount=type=cache,target=/root/.ccache python3 -m nuitka --mode=onefile \
             --output-filename=chatrixcd-linux-arm64 --enable-plugin=anti-bloat --assume-yes-for-downloads \
             --static-libpython=yes --lto=no --jobs=4 --linux-icon=assets/icon.png --include-data-dir=assets=assets \
             chatrixcd/main.py",
            "Dockerfile:27-27 [export 0/1] FROM scratch",
            "Dockerfile:29-29 [export 1/1] COPY --from=builder /src/chatrixcd-linux-arm64 /",
        ]
    );
    let vertices: Vec<&Vertex> = graph.iter().map(|(_, vertex)| vertex).collect();
    let image =
        Source::Image { reference: "alpine:3.20".into(), id: "id of alpine:3.20 linux/arm64".into(), platform: ARM64 };
    assert_eq!(vertices[0].op, Op::Source(image));
    let apk = exec(vertices[1]);
    assert_eq!(apk.argv[..2], ["/bin/sh", "-c"]);
    assert!(apk.argv[2].starts_with("apk add --no-cache     python3 py3-pip"), "{:?}", apk.argv[2]);
    assert_eq!(
        apk.env,
        [("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned())]
    );
    assert_eq!(apk.cwd, "/");
    let nuitka = exec(vertices[8]);
    let path = "/venv/bin:/usr/lib/ccache/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let env = [
        ("PATH", path),
        ("CCACHE_DIR", "/root/.ccache"),
        ("VIRTUAL_ENV", "/venv"),
        ("ARCH", "arm64"),
        ("ENABLE_LTO", "no"),
    ];
    assert_eq!(nuitka.env, env.map(|(n, v)| (n.to_owned(), v.to_owned())));
    assert_eq!(nuitka.cwd, "/src");
    assert_eq!(nuitka.platform, ARM64);
    // Variables in the command are left to the shell.
    assert!(nuitka.argv[2].contains("--output-filename=chatrixcd-linux-${ARCH}"));
    let [mount] = nuitka.mounts.as_slice() else { panic!("{:?}", nuitka.mounts) };
    assert_eq!((mount.target.as_str(), mount.readonly), ("/root/.ccache", false));
    let MountKind::Cache(cache) = &mount.kind else { panic!("{mount:?}") };
    assert_eq!((cache.id.as_str(), cache.sharing, cache.from.as_ref()), ("/root/.ccache", Sharing::Shared, None));
    let Op::File(export) = &vertices[10].op else { panic!() };
    let [FileAction::Copy(copy)] = export.actions.as_slice() else { panic!() };
    assert_eq!(copy.sources, ["src/chatrixcd-linux-arm64"]);
    assert_eq!((copy.dest.as_str(), copy.input, copy.unpack), ("/", 1, false));
    assert_eq!(vertices[10].inputs.iter().map(|id| id.0).collect::<Vec<_>>(), [9, 8]);
    assert_eq!(lowered.target.root.0, 10);
    assert_eq!((lowered.target.name.as_str(), lowered.target.platform), ("export", ARM64));
}
