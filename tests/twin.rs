//! The native twin against plain emulation: the same program, built both ways, must be the same in all but time.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_artifact::Content;
use kiln_artifact::check;
use kiln_e2e::{Project, Ran, needed};
use kiln_graph::{Arch, Platform};

const ARM64: Platform = Platform::linux(Arch::Arm64);

/// Without twins, from nothing: no result and no cache of the other build is used.
const EMULATED: &[&str] = &["--twin=off", "--no-cache", "--no-cache-mounts"];

/// Asks all that a program can know of its machine and its interpreter, and uses extension modules and data of others.
const FACTS: &str = r#"
import hashlib, json, math, platform, sqlite3, ssl, struct, sys, sysconfig
import certifi, charset_normalizer, psutil

if "--version" in sys.argv:
    print("facts 1.0")
    sys.exit()
print(json.dumps({
    "machine": platform.machine(),
    "architecture": platform.architecture()[0],
    "platform": sys.platform,
    "system": platform.system(),
    "python": platform.python_version(),
    "version": sys.version,
    "compiler": platform.python_compiler(),
    "implementation": sys.implementation.cache_tag,
    "pointer": struct.calcsize("P"),
    "long": struct.calcsize("l"),
    "maxsize": sys.maxsize,
    "byteorder": sys.byteorder,
    "float": list(sys.float_info),
    "hash": sys.hash_info.width,
    "sysconfig": sysconfig.get_platform(),
    "suffix": sysconfig.get_config_var("EXT_SUFFIX"),
    "multiarch": sysconfig.get_config_var("MULTIARCH"),
    "ssl": ssl.OPENSSL_VERSION,
    "sqlite": sqlite3.sqlite_version,
    "sine": math.sin(1e22).hex(),
    "text": charset_normalizer.from_bytes("Ärger über Öl, naïve façade".encode("latin-1")).best().encoding is not None,
    "extension": charset_normalizer.md.__file__.rsplit(".", 1)[-1],
    "psutil": psutil.Process().name() != "",
    "roots": hashlib.sha256(open(certifi.where(), "rb").read()).hexdigest(),
}, indent=1))
"#;

/// A larger one: plugin queries of Nuitka, many modules, extension modules that find each other.
const SCREEN: &str = r#"
import asyncio, sys
import aiohttp, frozenlist, multidict, yarl
from aiohttp import web
from textual.app import App
from textual.widgets import Label


class Small(App):
    def compose(self):
        yield Label("drawn by textual")


async def draw():
    app = Small()
    async with app.run_test() as pilot:
        await pilot.pause()
        return str(app.query_one(Label).render())


async def fetch():
    async def answer(request):
        return web.json_response({"path": request.path})

    application = web.Application()
    application.router.add_get("/{rest:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/ping") as reply:
        path = (await reply.json())["path"]
    await runner.cleanup()
    return path


if "--version" in sys.argv:
    print("screen 1.0")
else:
    print(asyncio.run(draw()), asyncio.run(fetch()))
    print(aiohttp.http_parser.HttpRequestParser.__module__, frozenlist.FrozenList.__module__, multidict.CIMultiDict.__module__)
"#;

/// All that is compared of a build.
#[derive(Debug)]
struct Built {
    /// Modules, extension modules, libraries and data files of Nuitka's report.
    report: BTreeMap<String, String>,
    /// The ELF facts, or the kind, of the program and of every file inside.
    files: BTreeMap<String, String>,
    /// What the program prints.
    output: String,
}

/// Builds for arm64 and looks at the result; `way` is how its steps must have run.
fn build(project: &Project, name: &str, image: &str, way: &str, arguments: &[&str]) -> Built {
    let ran = project.build(&[&["--platform=linux/arm64"], arguments].concat());
    assert_eq!(way_of(&ran), way, "{}", ran.stderr);
    let artifact: PathBuf = project.path().join("dist").join(format!("{name}-linux-arm64"));
    let inspection = check::inspect(&artifact).expect("the artifact can be read");
    let verdict = check::verify(&inspection, ARM64, &check::Expectations::default());
    assert!(verdict.is_fit(), "{:?}", verdict.problems);
    let files = inspection.program.iter().chain(inspection.contained());
    let files = files.map(|file| {
        let what = match &file.content {
            // Sizes may differ by the compilers' own names in comments.
            Content::Elf(facts) => format!("{} {facts:?}", file.executable),
            Content::Data => format!("{} data of {} bytes", file.executable, file.size),
            other => format!("{other:?}"),
        };
        assert!(!what.contains("/dev/"), "a path of the twin is left: {what}");
        (file.name.clone(), what)
    });
    let files = files.collect();
    let (code, output) = project.daemon().run(image, ARM64, &artifact, &[]);
    assert_eq!(code, 0, "{output}");
    let report = report(&project.read(".kiln/reports/linux_arm64/report.xml"));
    assert!(report.len() > 20, "the report says more: {report:?}");
    Built { report, files, output }
}

fn way_of(ran: &Ran) -> String {
    let reports = ran.events_of("target-finished");
    reports[0]["report"]["way"].as_str().unwrap_or_default().to_owned()
}

/// What the report says is in the program: element and name, with the attributes that say what it is.
fn report(xml: &str) -> BTreeMap<String, String> {
    const ELEMENTS: [&str; 5] = ["module", "included_extension", "included_dll", "data_file", "distribution"];
    let attribute = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(" {name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let mut found = BTreeMap::new();
    for line in xml.lines().map(str::trim) {
        for element in ELEMENTS.iter().filter(|element| line.starts_with(&format!("<{element} "))) {
            let Some(name) = attribute(line, "name") else { continue };
            let what = ["kind", "usage", "version"].map(|name| attribute(line, name).unwrap_or_default());
            found.insert(format!("{element} {name}"), what.join(" "));
        }
    }
    found
}

fn assert_same(twin: &Built, emulated: &Built) {
    let differences = |ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>| -> Vec<String> {
        let names = ours.keys().chain(theirs.keys()).filter(|name| ours.get(*name) != theirs.get(*name));
        names.map(|name| format!("{name}: {:?} / {:?}", ours.get(name), theirs.get(name))).collect()
    };
    assert_eq!(differences(&twin.report, &emulated.report), [""; 0], "Nuitka's reports, twin / emulated");
    assert_eq!(differences(&twin.files, &emulated.files), [""; 0], "files of the programs, twin / emulated");
    assert_eq!(twin.output, emulated.output);
}

fn project(recipe: &str, base: &str, requirements: &str, main: &str) -> Option<Project> {
    let base = if base.is_empty() { String::new() } else { format!("base = \"{base}\"\n") };
    let settings = format!(
        "[project]\nname = \"program\"\nentry = \"main.py\"\nrequirements = [{requirements}]\n\n\
         [build]\nrecipe = \"{recipe}\"\n{base}"
    );
    Project::new(&[("kiln.toml", &settings), ("main.py", main)])
}

#[test]
fn a_program_for_glibc_is_the_same_either_way() {
    let requirements = r#""certifi==2025.10.5", "charset-normalizer==3.4.4", "psutil==7.1.3""#;
    let Some(project) = project("debian", "", requirements, FACTS) else { return };
    // Nothing of the one is of use to the other: the toolchain is installed twice as well.
    let twin = build(&project, "program", "debian:bookworm", "twin", &[]);
    let emulated = build(&project, "program", "debian:bookworm", "qemu", EMULATED);
    assert_same(&twin, &emulated);
    assert!(twin.output.contains("\"machine\": \"aarch64\""), "{}", twin.output);
}

#[test]
fn a_program_for_musl_is_the_same_either_way() {
    let Some(image) = needed("KILN_TEST_MUSL_IMAGE") else { return };
    let requirements = r#""certifi==2025.10.5", "charset-normalizer==3.4.4", "psutil==7.1.3""#;
    let Some(project) = project("alpine", &image, requirements, FACTS) else { return };
    let twin = build(&project, "program", "alpine:3.20", "twin", &[]);
    let emulated = build(&project, "program", "alpine:3.20", "qemu", EMULATED);
    assert_same(&twin, &emulated);
}

#[test]
fn a_large_program_has_the_modules_of_its_native_sibling() {
    let Some(project) = project("debian", "", r#""aiohttp==3.12.15", "textual==6.1.0""#, SCREEN) else { return };
    let twin = build(&project, "program", "debian:bookworm", "twin", &[]);
    assert!(twin.output.contains("drawn by textual /ping"), "{}", twin.output);
    project.build(&["--platform=linux/amd64"]);
    let native = report(&project.read(".kiln/reports/linux_amd64/report.xml"));
    // Both have a module of build settings that carries the machine in its name.
    let neutral = |report: &BTreeMap<String, String>| -> Vec<String> {
        report.keys().map(|name| name.replace("x86_64", "MACHINE").replace("aarch64", "MACHINE")).collect()
    };
    assert_eq!(neutral(&twin.report), neutral(&native));
    // Under plain emulation it takes most of an hour: `cargo xtask test bake --long`.
    if std::env::var_os("KILN_TEST_LONG").is_some() {
        let emulated = build(&project, "program", "debian:bookworm", "qemu", &["--twin=off", "--no-cache"]);
        assert_same(&twin, &emulated);
    }
}
