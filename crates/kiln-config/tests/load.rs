//! Configuration as a caller sees it: layers in, settings, warnings and errors out.

use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_config::{
    BuildNetwork, ByteSize, Config, ConfigError, DataMapping, Entry, Fallback, Jobs, Key, Layer, LayerKind, Loaded,
    Mode, Program, ProjectFacts, Recipe, Requirements, Section, Settings, Smoke, TestCommand, Toggle, keys, pyproject,
};
use kiln_graph::Platform;

fn facts() -> ProjectFacts {
    ProjectFacts { folder_name: "hello".to_owned(), folder_digest: "0a1b".to_owned(), ..ProjectFacts::default() }
}

fn load(layers: Vec<Layer>) -> Result<Loaded, ConfigError> {
    Config::load(layers, &facts())
}

fn settings(layers: Vec<Layer>) -> Settings {
    load(layers).unwrap_or_else(|error| panic!("{error}")).config.resolved()
}

fn file(text: &str) -> Layer {
    Layer::file("kiln.toml", text)
}

fn env(name: &str, value: &str) -> Layer {
    Layer::env([(name, value)])
}

fn flag(key: &str, value: &str) -> Layer {
    Layer::flags([(key, value)])
}

#[test]
fn a_project_for_kiln_is_told_from_one_that_only_has_a_pyproject() {
    let has = |layers| load(layers).expect("valid").config.has_project_file();
    let pyproject = |text: &str| Layer::file("pyproject.toml", text);
    assert!(has(vec![file("")]) && has(vec![pyproject("[tool.kiln.build]\noutput = \"out\"\n")]));
    assert!(has(vec![pyproject("[project]\nname = \"a\"\n"), file("")]));
    assert!(!has(vec![]) && !has(vec![pyproject("[project]\nname = \"a\"\n")]));
    assert!(!has(vec![Layer::user_file("config.toml", "[build]\noutput = \"out\"\n"), env("KILN_BUILD_OUTPUT", "x")]));
    let auto = |layer| settings(vec![layer]).build.auto_caches;
    assert_eq!(auto(file("")), Toggle::Auto);
    assert_eq!(auto(file("[build]\nauto-caches = true\n")), Toggle::Yes);
    assert_eq!(auto(env("KILN_BUILD_AUTO_CACHES", "false")), Toggle::No);
}

fn platform(name: &str) -> Platform {
    name.parse().unwrap()
}

fn entry(config: &Config, key: &str) -> Entry {
    config.entries().find(|entry| entry.key == key).unwrap_or_else(|| panic!("no entry {key}"))
}

#[test]
fn nothing_set_gives_the_defaults() {
    let settings = settings(vec![]);
    assert_eq!(settings.project.name, "hello");
    assert_eq!(settings.project.program, None);
    assert_eq!(settings.project.requirements, Requirements::None);
    assert_eq!(
        (settings.nuitka.mode, settings.nuitka.lto, settings.nuitka.jobs),
        (Mode::Onefile, Toggle::Auto, Jobs::Auto)
    );
    assert_eq!(settings.build.recipe, Recipe::Alpine);
    assert_eq!(settings.build.base.as_deref(), Some("alpine:3.20"));
    assert_eq!(settings.build.platforms, ["linux/amd64", "linux/386", "linux/arm64"].map(platform));
    assert_eq!(settings.build.output, PathBuf::from("dist"));
    assert_eq!(settings.verify.run, Smoke::Auto);
    assert_eq!(settings.verify.timeout, Duration::from_mins(2));
    assert_eq!(settings.verify.image.as_deref(), Some("alpine:3.20"));
    assert_eq!(settings.cache.scope, "hello-0a1b");
    assert_eq!(settings.cache.max_size, ByteSize(2_000_000_000));
    assert!(settings.emulation.install);
}

#[test]
fn every_key_has_an_effect_from_every_layer() {
    let plain = settings(vec![]);
    for key in keys() {
        let toml = format!("[{}]\n{} = {}\n", key.section.name(), key.name, key.example);
        let from_file = load(vec![file(&toml)]).unwrap();
        assert_eq!(from_file.warnings, [], "{key}");
        let from_file = from_file.config.resolved();
        assert_ne!(from_file, plain, "{key}");
        assert_eq!(settings(vec![Layer::user_file("config.toml", &toml)]), from_file, "{key}");
        let text = key.example.trim_matches('"');
        let text = if key.name == "args" { "FLAVOUR=full" } else { text };
        assert_eq!(settings(vec![env(&key.variable(), text)]), from_file, "{key}");
        assert_eq!(settings(vec![flag(&key.dotted(), text)]), from_file, "{key}");
        if key.per_platform() {
            let (arm64, amd64) = (platform("linux/arm64"), platform("linux/amd64"));
            let header = format!("[platform.\"linux/arm64\".{}]\n{} = {}\n", key.section.name(), key.name, key.example);
            let config = load(vec![file(&header)]).unwrap().config;
            let general = load(vec![file(&toml)]).unwrap().config;
            let plain = load(vec![]).unwrap().config;
            assert_eq!(config.for_platform(arm64).build, general.for_platform(arm64).build, "{key}");
            assert_eq!(config.for_platform(arm64).project, general.for_platform(arm64).project, "{key}");
            assert_eq!(config.for_platform(arm64).network, general.for_platform(arm64).network, "{key}");
            assert_eq!(config.for_platform(arm64).verify, general.for_platform(arm64).verify, "{key}");
            assert_eq!(config.for_platform(arm64).nuitka, general.for_platform(arm64).nuitka, "{key}");
            assert_eq!(config.for_platform(amd64), plain.for_platform(amd64), "{key}");
            assert_eq!(config.resolved(), plain.resolved(), "{key}");
            let variable = load(vec![env(&key.platform_variable(arm64), text)]).unwrap().config;
            assert_eq!(variable.for_platform(arm64).nuitka, config.for_platform(arm64).nuitka, "{key}");
            assert_eq!(variable.for_platform(arm64).artifact, config.for_platform(arm64).artifact, "{key}");
        }
    }
}

#[test]
fn a_higher_layer_wins() {
    let layers = [
        (LayerKind::User, Layer::user_file("/home/u/config.toml", "nuitka.jobs = 1\n")),
        (LayerKind::Project, file("[nuitka]\njobs = 2\n")),
        (LayerKind::Environment, env("KILN_NUITKA_JOBS", "3")),
        (LayerKind::Flags, flag("nuitka.jobs", "4")),
    ];
    for count in 1..=4_u16 {
        // The order in which they are handed over does not matter: their kinds rank them.
        let mut given: Vec<Layer> = layers[..usize::from(count)].iter().map(|(_, layer)| layer.clone()).collect();
        given.reverse();
        let config = load(given).unwrap().config;
        assert_eq!(config.resolved().nuitka.jobs, Jobs::Count(NonZeroU16::new(count).unwrap()));
        assert_eq!(entry(&config, "nuitka.jobs").provenance.layer, layers[usize::from(count) - 1].0);
    }
    let text = "[nuitka]\nlto = \"no\"\n[platform.\"linux/arm64\"]\nlto = \"yes\"\n";
    let arm64 = platform("linux/arm64");
    assert!(load(vec![file(text)]).unwrap().config.for_platform(arm64).lto.enabled, "the override wins in its layer");
    let config = load(vec![file(text), flag("nuitka.lto", "no")]).unwrap().config;
    assert!(!config.for_platform(arm64).lto.enabled, "a flag wins over an override in a file");
}

#[test]
fn values_come_with_their_place() {
    let config = load(vec![
        file("[project]\nname = \"tool\"\n\n[build]\nargs = { B = \"2\", A = 1 }\n\n[platform.arm64]\nlto = true\n"),
        env("KILN_BUILD_ARGS", "A=3"),
        flag("platform.\"linux/386\".nuitka.jobs", "2"),
    ])
    .unwrap()
    .config;
    for (key, value, from) in [
        ("project.name", Some("\"tool\""), "kiln.toml:2"),
        ("project.version", None, "default"),
        ("nuitka.lto", Some("\"auto\""), "default"),
        ("build.args.A", Some("\"3\""), "KILN_BUILD_ARGS"),
        ("build.args.B", Some("\"2\""), "kiln.toml:5"),
        ("build.base", Some("\"alpine:3.20\""), "from build.recipe"),
        ("cache.scope", Some("\"tool-0a1b\""), "from project.name"),
        ("platform.\"linux/arm64\".nuitka.lto", Some("\"yes\""), "kiln.toml:8"),
        ("platform.\"linux/386\".nuitka.jobs", Some("2"), "command line (platform.\"linux/386\".nuitka.jobs)"),
    ] {
        let entry = entry(&config, key);
        assert_eq!((entry.value.as_deref(), entry.provenance.to_string().as_str()), (value, from), "{key}");
    }
    let entry = entry(&config, "project.name");
    assert_eq!((entry.provenance.file(), entry.provenance.line()), (Some(Path::new("kiln.toml")), Some(2)));
    assert_eq!(config.provenance(Section::Nuitka, "lto", Some(platform("arm64"))).line(), Some(8));
    let keys = keys().filter(|key| !matches!(key.name, "args" | "env")).count();
    assert_eq!(config.entries().count(), keys + 4);
}

#[test]
fn what_is_shown_hides_credentials() {
    let config = load(vec![file(
        "[network]\npip-index-url = \"https://me:secret@host/simple\"\nhttp-proxy = \"me:secret@proxy:3128\"\n\
         pip-args = [\"--extra-index-url=https://secret@host\"]\n",
    )])
    .unwrap()
    .config;
    assert!(config.entries().all(|entry| !entry.value.unwrap_or_default().contains("secret")));
    assert!(config.resolved().network.http_proxy.unwrap().contains("secret"));
    let error = load(vec![env("KILN_NETWORK_PIP_INDEX_URL", "https://me:secret@host/with blank")]).unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn pyproject_holds_the_configuration_unless_there_is_a_kiln_toml() {
    let text = "[project]\nname = \"ignored-here\"\n[tool.black]\nline-length = 1\n[tool.kiln.nuitka]\njobs = 0\n";
    let error = load(vec![Layer::file("sub/pyproject.toml", text)]).unwrap_err();
    assert!(error.to_string().starts_with("sub/pyproject.toml:6:8: `nuitka.jobs`"), "{error}");
    let good = text.replace("jobs = 0", "jobs = 7");
    let pyproject = || Layer::file("pyproject.toml", good.as_str());
    assert_eq!(settings(vec![pyproject()]).nuitka.jobs, Jobs::Count(NonZeroU16::new(7).unwrap()));
    let loaded = load(vec![pyproject(), file("")]).unwrap();
    assert_eq!(loaded.config.resolved().nuitka.jobs, Jobs::Auto);
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["pyproject.toml: [tool.kiln] is ignored, because kiln.toml exists"]);
    let silent = load(vec![Layer::file("pyproject.toml", "[tool.x]\n"), file("")]).unwrap();
    assert_eq!(silent.warnings, []);
}

#[test]
fn the_project_gives_name_version_requirements_and_program() {
    let mut facts = facts();
    facts.pyproject =
        pyproject::read("[project]\nname = \"httpie\"\nversion = \"3.2\"\ndependencies = [\"rich>=13,<15\"]\n").ok();
    facts.files.insert("main.py".to_owned());
    let config = Config::load([], &facts).unwrap().config;
    let project = config.resolved().project;
    assert_eq!((project.name.as_str(), project.version.as_deref()), ("httpie", Some("3.2")));
    assert_eq!(project.requirements, Requirements::List(vec!["rich>=13,<15".to_owned()]));
    assert_eq!(project.program, Some(Program::Entry("main.py".to_owned())));
    assert_eq!(entry(&config, "project.version").provenance.to_string(), "pyproject.toml:3");
    facts.files.insert("requirements.txt".to_owned());
    let config = Config::load([], &facts).unwrap().config;
    assert_eq!(config.resolved().project.requirements, Requirements::File("requirements.txt".to_owned()));
    facts.files.insert("app.py".to_owned());
    let settings = Config::load([file("project.requirements = []")], &facts).unwrap().config.resolved();
    assert_eq!(settings.project.requirements, Requirements::None);
    let error = settings.program(&facts.entry_candidates()).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("these look like programs: main.py, app.py"));
}

#[test]
fn entry_and_module_replace_each_other_between_layers() {
    let entry = "project.entry = \"main.py\"\n";
    let module = "project.module = \"hello\"\n[platform.\"linux/386\"]\nentry = \"old.py\"\n";
    let config = load(vec![Layer::user_file("/u/config.toml", entry), file(module)]).unwrap().config;
    assert_eq!(config.resolved().project.program, Some(Program::Module("hello".to_owned())));
    let program = config.for_platform(platform("linux/386")).project.program;
    assert_eq!(program, Some(Program::Entry("old.py".to_owned())));
    assert_eq!(self::entry(&config, "project.entry").value, None);
    let both = load(vec![file(module), flag("project.entry", "new.py")]).unwrap().config;
    assert_eq!(both.for_platform(platform("linux/386")).project.program, Some(Program::Entry("new.py".to_owned())));
}

#[test]
fn platforms_get_their_overrides_and_the_policy() {
    let text = "[build]\nbase = \"alpine:3.21\"\npackages = [\"git\"]\nargs = { A = \"1\", B = \"1\" }\n\
                [platform.\"linux/arm64\".nuitka]\njobs = 2\n\
                [platform.\"linux/386\"]\nlto = \"no\"\nrecipe = \"debian\"\npython = \"3.11\"\nargs = { B = \"2\" }\nrun = false\n";
    let config = load(vec![file(text)]).unwrap().config;
    for (name, enabled, explicit, artifact, base) in [
        ("linux/amd64", true, false, "hello-linux-x86_64", "alpine:3.21"),
        ("linux/386", false, true, "hello-linux-i686", "debian:bookworm"),
        ("linux/arm64", false, false, "hello-linux-arm64", "alpine:3.21"),
        ("linux/arm/v7", false, false, "hello-linux-armv7", "alpine:3.21"),
        ("linux/riscv64", false, false, "hello-linux-riscv64", "alpine:3.21"),
    ] {
        let settings = config.for_platform(platform(name));
        assert_eq!((settings.lto.enabled, settings.lto.explicit.is_some()), (enabled, explicit), "{name}");
        assert_eq!((settings.artifact.as_str(), settings.build.base.as_deref()), (artifact, Some(base)), "{name}");
        assert_eq!(settings.build.packages, ["git"], "{name}");
        assert_eq!(settings.verify.image.as_deref(), Some(base), "{name}");
    }
    let i386 = config.for_platform(platform("linux/386"));
    assert_eq!(i386.lto.summary(), "no (kiln.toml:8)");
    assert_eq!(config.for_platform(platform("amd64")).lto.summary(), "yes (auto)");
    assert_eq!((i386.project.python.as_deref(), i386.verify.run), (Some("3.11"), Smoke::Off));
    let args: Vec<(String, String)> = i386.build.args.into_iter().collect();
    assert_eq!(args, [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]);
    assert_eq!(config.resolved().build.args["B"], "1");
}

#[test]
fn texts_of_variables_and_flags_become_lists_and_tables() {
    let settings = settings(vec![
        Layer::env([
            ("KILN_BUILD_PLATFORMS", "amd64, linux/arm64,"),
            ("KILN_PROJECT_REQUIREMENTS", "[\"rich>=13,<15\", \"click\"]"),
            ("KILN_NETWORK_CA_CERTIFICATES", "/certs/ca.pem"),
            ("KILN_NETWORK_BUILD_NETWORK", "host"),
            ("KILN_EMULATION_INSTALL", "0"),
            ("KILN_VERIFY_RUN", "-c 'two words'"),
            ("KILN_NUITKA_COMPRESSION", "false"),
            ("KILN_CACHE_KEEP_SIZE", "1GiB"),
        ]),
        Layer::flags([
            ("build.args.CC", "clang,gcc".to_owned().into()),
            ("project.data", vec!["assets=assets".to_owned()].into()),
            ("project.data", vec!["a,b=c".to_owned()].into()),
            ("nuitka.extra-args", kiln_config::FlagValue::List(vec!["--include-package=a,b".to_owned()])),
            ("nuitka.jobs", "2".into()),
            ("nuitka.jobs", "3".into()),
        ]),
    ]);
    assert_eq!(settings.build.platforms, ["linux/amd64", "linux/arm64"].map(platform));
    let requirements = ["rich>=13,<15", "click"].map(str::to_owned).to_vec();
    assert_eq!(settings.project.requirements, Requirements::List(requirements));
    assert_eq!(settings.network.ca_certificates, Some(PathBuf::from("/certs/ca.pem")));
    assert_eq!(settings.network.build_network, BuildNetwork::Host);
    assert!(!settings.emulation.install);
    assert_eq!(settings.verify.run, Smoke::Arguments(vec!["-c".to_owned(), "two words".to_owned()]));
    assert_eq!(settings.nuitka.compression, Toggle::No);
    assert_eq!(settings.cache.keep_size, ByteSize(1 << 30));
    assert_eq!(settings.build.args["CC"], "clang,gcc");
    let mapping = |source: &str, target: &str| DataMapping { source: source.to_owned(), target: target.to_owned() };
    assert_eq!(settings.project.data, [mapping("assets", "assets"), mapping("a,b", "c")]);
    assert_eq!(settings.nuitka.extra_args, ["--include-package=a,b"]);
    assert_eq!(settings.nuitka.jobs, Jobs::Count(NonZeroU16::new(3).unwrap()));
}

#[test]
fn paths_in_the_users_file_are_relative_to_it() {
    let text = "network.ca-certificates = \"certs/ca.pem\"\nbuild = { recipe = \"debian\", output = \"out\" }\n";
    let settings = settings(vec![Layer::user_file("/home/u/kiln/config.toml", text)]);
    assert_eq!(settings.network.ca_certificates, Some(PathBuf::from("/home/u/kiln/certs/ca.pem")));
    assert_eq!((settings.build.recipe, settings.build.output), (Recipe::Debian, PathBuf::from("out")));
    let shell = self::settings(vec![file("verify.run = \"echo 1 | {artifact} --stdin\"")]);
    assert_eq!(shell.verify.run, Smoke::Shell("echo 1 | {artifact} --stdin".to_owned()));
}

#[test]
fn missing_files_are_named() {
    let mut facts = facts();
    facts.files.extend(["main.py".to_owned(), "requirements.txt".to_owned()]);
    let exists = |path: &Path| path == Path::new("main.py") || path == Path::new("assets");
    let check = |text: &str| {
        let config = Config::load([file(text)], &facts).unwrap().config;
        config.check_files(&facts, exists).map_err(|error| error.to_string())
    };
    let none = "project.requirements = []\n";
    assert_eq!(check(&format!("{none}project.data = [\"assets=a\", \"*.txt=t\"]")), Ok(()));
    for (text, message) in [
        (
            "project.requirements = \"requirement.txt\"",
            "kiln.toml:1:24: `requirement.txt` of `project.requirements` does not exist (did you mean `requirements.txt`?)",
        ),
        (
            "project.requirements = []\nbuild.recipe = \"Dockerfile.build\"",
            "kiln.toml:2:16: `Dockerfile.build` of `build.recipe` does not exist",
        ),
        (
            "project.requirements = []\n[platform.386]\nentry = \"mian.py\"",
            "kiln.toml:3:9: `mian.py` of `platform.\"linux/386\".project.entry` does not exist (did you mean `main.py`?)",
        ),
    ] {
        assert_eq!(check(text).unwrap_err(), message);
    }
}

#[test]
fn every_default_that_is_a_value_is_listed_as_such() {
    let config = load(vec![]).unwrap().config;
    for key in keys() {
        let Fallback::Value(default) = key.default else { continue };
        if !matches!(key.name, "args" | "env") {
            assert_eq!(entry(&config, &key.dotted()).value.as_deref(), Some(default), "{key}");
        }
    }
    assert!(Key::find(Section::Build, "frobnicate").is_none());
}

#[test]
fn no_input_panics() {
    let pieces = [
        "[",
        "]",
        "=",
        "\"",
        "'",
        "{",
        "}",
        "\n",
        "project",
        "platform",
        ".",
        "\"linux/arm64\"",
        "lto",
        "ü",
        "\u{0}",
        "1e999",
        "0x",
        "[[",
        "]]",
        "1979-05-27",
        "args",
        "build",
        "artifact",
        "{name",
        "run",
        "'\"",
        "\\",
        "#",
        ",",
        " ",
    ];
    // A linear congruential generator: the same texts on every run.
    let mut state = 1_u64;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % bound
    };
    for _ in 0..400 {
        let text: String = (0..next(14)).map(|_| pieces[next(pieces.len())]).collect();
        let key = keys().nth(next(40)).unwrap();
        let layers = [
            vec![file(&text)],
            vec![file(&format!("[{}]\n{} = {text}", key.section.name(), key.name))],
            vec![Layer::file("pyproject.toml", text.as_str())],
            vec![env(&key.variable(), &text)],
            vec![flag(&key.dotted(), &text), flag(&text, "1")],
        ];
        for layers in layers {
            if let Ok(loaded) = load(layers) {
                let _ = loaded.config.resolved();
                let _ = loaded.config.entries().count();
            }
        }
        let _ = pyproject::read(&text);
    }
}

#[test]
fn a_table_in_a_section_and_a_name_with_a_dot_are_the_same() {
    let storage = Some("redis://cache.example.org".to_owned());
    for text in [
        "[cache.ccache]\nremote-storage = \"redis://cache.example.org\"\n",
        "[cache]\nccache.remote-storage = \"redis://cache.example.org\"\n",
    ] {
        assert_eq!(settings(vec![file(text)]).cache.ccache_remote, storage, "{text}");
    }
    let by_variable = env("KILN_CACHE_CCACHE_REMOTE_STORAGE", "redis://cache.example.org");
    assert_eq!(settings(vec![by_variable]).cache.ccache_remote, storage);
    let by_flag = flag("cache.ccache.remote-storage", "redis://cache.example.org");
    assert_eq!(settings(vec![by_flag]).cache.ccache_remote, storage);
    let wrong = load(vec![file("[cache.ccache]\nremote = \"x\"\n")]).expect("a warning alone");
    assert!(wrong.warnings[0].to_string().contains("cache.ccache.remote"), "{}", wrong.warnings[0]);
}

#[test]
fn tests_have_settings_of_their_own() {
    let toml = "[test]\npython = [\"3.11\", \"3.12\", \"3.11\"]\nrequirements = \".[test]\"\nenv = { TZ = \"UTC\" }\n\
                images = { \"3.12\" = \"mine:12\" }\ntimeout = \"5m\"\n[build]\nargs = { A = \"1\" }\n";
    let test = settings(vec![file(toml), flag("test.env.LANG", "C"), flag("test.command", "make check")]).test;
    assert_eq!(test.python, ["3.11", "3.12"]);
    assert_eq!(test.requirements, Requirements::List(vec![".[test]".to_owned()]));
    // Variables of tests and arguments of builds are tables, too, and stay apart.
    assert_eq!(test.env.keys().collect::<Vec<_>>(), ["LANG", "TZ"]);
    assert_eq!(settings(vec![file(toml)]).build.args.len(), 1);
    assert_eq!(test.command, Some(TestCommand::Shell("make check".to_owned())));
    let images = test.images.expect("set");
    assert_eq!((images.of("3.12").as_deref(), images.of("3.11")), (Some("mine:12"), None));
    assert_eq!(test.timeout, Duration::from_mins(5));
    assert_eq!(test.base.as_deref(), Some("alpine:3.20"));
    // What the project shows comes first, and anything that is set comes before it.
    let mut shown = facts();
    shown.files.extend(["tests/test_a.py".to_owned(), "requirements-dev.txt".to_owned()]);
    let of = |layers: Vec<Layer>| Config::load(layers, &shown).expect("valid").config;
    let config = of(vec![]);
    let (command, requirements) = (config.resolved().test.command, config.resolved().test.requirements);
    assert_eq!(command, Some(TestCommand::Words(vec!["pytest".to_owned()])));
    assert_eq!(requirements, Requirements::File("requirements-dev.txt".to_owned()));
    assert_eq!(entry(&config, "test.command").provenance.to_string(), "tests/test_a.py exists");
    let set = of(vec![file("[test]\ncommand = [\"nox\"]\nrequirements = []\n")]).resolved().test;
    assert_eq!(set.command, Some(TestCommand::Words(vec!["nox".to_owned()])));
    assert_eq!(set.requirements, Requirements::None);
    // They are of the whole project, so a bare name for one platform still means that of the build.
    let error = load(vec![file("[platform.arm64]\ntest.python = [\"3.12\"]\n")]).expect_err("refused");
    assert!(matches!(error, ConfigError::NotPerPlatform { .. }), "{error}");
    assert!(load(vec![file("[platform.arm64]\nbase = \"alpine:3.19\"\npackages = [\"x\"]\n")]).is_ok());
}

#[test]
fn an_image_of_the_program_is_described_in_a_table_of_its_own() {
    let text = "[release.image]\nbase = \"scratch\"\nuser = \"_app:nobody\"\nports = [\"8080\", \"53/udp\"]\n\
                labels = [\"org.opencontainers.image.source=https://example.org/?a=b\"]\nfiles = [\"a=usr/b\"]\n\
                workdir = \"/data\"\ntags = [\"r.example/{name}:{version}\"]\n";
    let image = settings(vec![file(text)]).release.image;
    assert_eq!((image.base.as_deref(), image.user.as_str()), (Some("scratch"), "_app:nobody"));
    assert_eq!(image.labels["org.opencontainers.image.source"], "https://example.org/?a=b");
    assert_eq!((image.files[0].source.as_str(), image.files[0].target.as_str()), ("a", "usr/b"));
    assert_eq!(settings(vec![file("")]).release.image.user, "65532:65532");
    for wrong in [
        "ports = [8080]",
        "ports = [\"0\"]",
        "workdir = \"data\"",
        "user = \"a b\"",
        "labels = [\"x\"]",
        "user = \":1\"",
    ] {
        let error = load(vec![file(&format!("[release.image]\n{wrong}\n"))]).expect_err("it is no such value");
        assert!(error.to_string().starts_with("kiln.toml:2:"), "{wrong}: {error}");
    }
}
