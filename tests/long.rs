//! What takes more than an hour: a tier of its own.

use std::collections::{BTreeMap, BTreeSet};

use kiln_e2e::Project;
use kiln_e2e::same::{EMULATED, assert_same, build, report};

/// A program with plugin queries of Nuitka, many modules, extension modules that find each other.
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

/// Without the lexers and styles of Pygments, three hundred modules of the same make that nothing here uses.
const SETTINGS: &str = r#"
[project]
name = "program"
entry = "main.py"
requirements = ["aiohttp==3.12.15", "textual==6.1.0"]

[build]
recipe = "debian"

[nuitka]
extra-args = ["--nofollow-import-to=pygments.lexers.[!_]*", "--nofollow-import-to=pygments.styles.[!_]*"]
"#;

#[test]
fn a_large_program_is_the_same_either_way() {
    let Some(project) = Project::new(&[("kiln.toml", SETTINGS), ("main.py", SCREEN)]) else { return };
    project.unoptimized("debian");
    let twin = build(&project, "program", "debian:bookworm", "twin", &[]);
    assert!(twin.output.contains("drawn by textual /ping"), "{}", twin.output);
    project.build(&["--platform=linux/amd64"]);
    let native = report(&project.read(".kiln/reports/linux_amd64/report.xml"));
    // Both have a module of build settings that carries the machine in its name.
    let neutral = |report: &BTreeMap<String, String>| -> BTreeSet<String> {
        report.keys().map(|name| name.replace("x86_64", "MACHINE").replace("aarch64", "MACHINE")).collect()
    };
    assert_eq!(neutral(&twin.report), neutral(&native));
    let emulated = build(&project, "program", "debian:bookworm", "qemu", EMULATED);
    assert_same(&twin, &emulated);
}
