//! Caches that travel from one machine to another: the engine under test is machine A, another engine is machine B.

use std::path::Path;

use kiln_e2e::{Project, Ran, Running, needed};
use kiln_testkit::GithubCache;
use rustix::process::Signal;

/// A Dockerfile with a slow step, a cache, and a step that a changed file repeats; nobody else has its keys.
fn dockerfile() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos();
    format!(
        "FROM alpine:3.20 AS build\nENV RUN_ID={now}-{}\nRUN sleep 2 && head -c 300000 /dev/urandom > /deps\n\
         COPY main.txt /\n\
         RUN --mount=type=cache,id=tool,target=/cache sleep 1; mkdir -p /cache/d && cat /cache/d/* /deps > /out || true; \
         cat /main.txt >> /out; cp /main.txt /cache/d/$(cat /main.txt); ln -sf ../d /cache/d/link; echo x > /cache/x.lock; \
         ls /cache /cache/d > /seen\nFROM scratch\nCOPY --from=build /out /seen /\n",
        std::process::id()
    )
}

/// Two machines with the same project.
struct Machines {
    a: Project,
    b: Project,
    store: tempfile::TempDir,
    /// Variables of both.
    variables: Vec<(String, String)>,
}

impl Machines {
    fn new() -> Option<Self> {
        let host = needed("KILN_TEST_OTHER_DAEMON")?;
        let text = dockerfile();
        let files = [("Dockerfile", text.as_str()), ("main.txt", "one\n")];
        let a = Project::new(&files)?;
        let b = Project::new(&files)?.on(&host);
        Some(Self { a, b, store: tempfile::tempdir().expect("a folder"), variables: Vec::new() })
    }

    fn start(&self, project: &Project, option: &str, value: &str) -> Running {
        let scope = format!("cache.scope={}", self.a.scope());
        let fixed = ["build", "-f", "Dockerfile", "--platform=linux/amd64", "-o", "out", "--set", &scope];
        let mut command = project.command(&[&fixed[..], &[option, value, "."]].concat());
        command.envs(self.variables.iter().cloned());
        Running::start(command)
    }

    fn run(&self, project: &Project, option: &str, value: &str) -> Ran {
        let ran = self.start(project, option, value).wait();
        assert_eq!(ran.code, Some(0), "{option} {value}: {}", ran.stderr);
        ran
    }

    fn to(&self) -> String {
        format!("type=local,dest={},mode=max", self.store.path().display())
    }

    fn from(&self) -> String {
        format!("type=local,src={}", self.store.path().display())
    }

    fn save_a(&self) -> Ran {
        self.run(&self.a, "--cache-to", &self.to())
    }

    fn build_b(&self) -> Ran {
        self.run(&self.b, "--cache-from", &self.from())
    }
}

/// What a project's last build exported.
fn out(project: &Project) -> Vec<u8> {
    std::fs::read(project.path().join("out/out")).expect("out")
}

/// The seconds that a step took, from plain output.
fn took(ran: &Ran, step: &str) -> f64 {
    let start = format!("done {step} in ");
    let rest = ran.stderr.split_once(&start).unwrap_or_else(|| panic!("no step {step}: {}", ran.stderr)).1;
    let time = rest.split(" s").next().unwrap_or_default();
    // What takes minutes is written otherwise.
    time.parse().unwrap_or(f64::INFINITY)
}

fn bytes(root: &Path) -> u64 {
    let mut sum = 0;
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let meta = entry.metadata().expect("metadata");
        sum += if meta.is_dir() { bytes(&entry.path()) } else { meta.len() };
    }
    sum
}

#[test]
fn another_machine_gets_results_stages_and_caches() {
    let Some(machines) = Machines::new() else { return };
    let saved = machines.save_a();
    assert!(saved.stderr.contains("saved to"), "{}", saved.stderr);
    let all = bytes(machines.store.path());
    // Nothing new, nothing sent.
    let again = machines.save_a();
    assert!(again.stderr.contains("nothing is new"), "{}", again.stderr);
    assert_eq!(bytes(machines.store.path()), all);
    // The same commit: no step runs, and the files are the very same.
    let ran = machines.build_b();
    assert!(ran.stderr.contains("restored the result") && !ran.stderr.contains("] step"), "{}", ran.stderr);
    assert_eq!(out(&machines.b), out(&machines.a));
    assert!(machines.build_b().stderr.contains("up to date"));
    // Another one: the slow step is restored, the changed one finds the cache of the other machine.
    machines.b.write("main.txt", "two\n");
    let ran = machines.build_b();
    assert!(ran.stderr.contains("restored 1 stage") && ran.stderr.contains("restored tool"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("step build 2/4"), "{}", ran.stderr);
    let seen = machines.b.read("out/seen");
    assert!(seen.contains("one\n") && seen.contains("link\n"), "{seen}");
    assert!(out(&machines.b).len() > 300_000 && out(&machines.b).ends_with(b"two\n"));
    // A's next save builds on what is there.
    machines.a.write("main.txt", "three\n");
    machines.save_a();
    let grown = bytes(machines.store.path()) - all;
    assert!(grown < all * 2, "{grown} of {all}");
}

#[test]
fn what_was_built_before_it_is_saved_took_its_time_then() {
    let Some(machines) = Machines::new() else { return };
    // One step is dear to make, the next one to restore: by the guessed speed of a store that takes 6.7 s. On a machine that
    // is busy the step may take as long, once.
    let large = "RUN head -c 200000000 /dev/urandom > /large\nCOPY main.txt /\n";
    let is_quick = (0..5).any(|_| {
        let text = dockerfile().replace("sleep 2", "sleep 1").replace("COPY main.txt /\n", large);
        for project in [&machines.a, &machines.b] {
            project.write("Dockerfile", &text);
        }
        let ran = machines.run(&machines.a, "--progress", "plain");
        took(&ran, "build 2/5") + took(&ran, "build 3/5") < 6.0
    });
    assert!(is_quick, "this machine needs more than 4 s to write 200 MB");
    let scope = format!("cache.scope={}", machines.a.scope());
    let rest = ["-f", "Dockerfile", "--platform=linux/amd64", "-o", "out", "--set", &scope, "."];
    let ran = machines.a.kiln(&[&["cache", "save", "--to", &machines.to()][..], &rest].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    machines.b.write("main.txt", "two\n");
    let ran = machines.build_b();
    assert!(ran.stderr.contains("/large` of stage build would take"), "{}", ran.stderr);
    assert!(ran.stderr.contains("restored 1 stage") && !ran.stderr.contains("step build 2/5"), "{}", ran.stderr);
}

#[test]
fn a_store_that_is_damaged_or_away_costs_time_alone() {
    let Some(machines) = Machines::new() else { return };
    machines.save_a();
    let packs: Vec<_> = std::fs::read_dir(machines.store.path().join("packs")).expect("packs").flatten().collect();
    for (index, pack) in packs.iter().enumerate() {
        let mut content = std::fs::read(pack.path()).expect("read");
        let middle = content.len() / 2;
        content[middle] ^= 0x55;
        if index % 2 == 0 {
            content.truncate(middle);
        }
        std::fs::write(pack.path(), content).expect("written");
    }
    let ran = machines.build_b();
    assert!(ran.stderr.contains("is damaged") && !ran.stderr.contains("restored the result"), "{}", ran.stderr);
    assert!(machines.b.read("out/seen").contains("one"), "it was built");
    machines.b.write("main.txt", "two\n");
    // A place that is not there, and one that cannot be written to.
    let file = machines.store.path().join("file");
    std::fs::write(&file, "").expect("written");
    machines.run(&machines.b, "--cache-from", &format!("type=local,src={}", file.join("x").display()));
    let to = format!("type=local,dest={}", file.display());
    machines.b.write("main.txt", "three\n");
    let ran = machines.run(&machines.b, "--cache-to", &to);
    assert!(ran.stderr.contains("caches were not saved"), "{}", ran.stderr);
    machines.b.write("main.txt", "four\n");
    let ran = machines.start(&machines.b, "--cache-to", &format!("{to},ignore-error=false")).wait();
    assert_eq!(ran.code, Some(4), "{}", ran.stderr);
    assert!(machines.b.path().join("out/out").exists());
}

#[test]
fn killed_while_it_saves_or_restores_the_next_is_right() {
    let Some(machines) = Machines::new() else { return };
    machines.run(&machines.a, "--progress", "plain");
    let kill_after = |running: Running, milliseconds: u64| {
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        running.signal(Signal::KILL);
        running.wait();
    };
    for delay in [100, 120, 140, 180, 260, 420] {
        kill_after(machines.start(&machines.a, "--cache-to", &machines.to()), delay);
    }
    machines.save_a();
    machines.b.write("main.txt", "two\n");
    for delay in [120, 160, 220, 340, 580] {
        kill_after(machines.start(&machines.b, "--cache-from", &machines.from()), delay);
    }
    machines.build_b();
    let seen = machines.b.read("out/seen");
    assert!(!seen.contains(".kiln-arriving") && seen.contains("d\n"), "{seen}");
    assert!(out(&machines.b).ends_with(b"two\n"));
}

#[test]
fn two_machines_that_share_a_store_at_once_get_no_wrong_file() {
    let Some(machines) = Machines::new() else { return };
    // Each file of the cache has the name of its content.
    let start = dockerfile().lines().take(2).collect::<Vec<_>>().join("\n");
    let text = format!(
        "{start}\nCOPY main.txt /\nRUN --mount=type=cache,id=named,target=/cache cd /cache && ls > /seen && \
         for name in $(ls); do [ $(sha256sum < $name | cut -c1-64) = $name ] || exit 1; done && \
         head -c 30000 /dev/urandom > /new && cp /new $(sha256sum < /new | cut -c1-64)\n\
         FROM scratch\nCOPY --from=build /main.txt /seen /\n"
    );
    let store = machines.store.path().display().to_string();
    let remote = format!("cache.remote=[\"{store}\"]");
    let both = [(&machines.a, "a"), (&machines.b, "b")];
    for round in 0..8 {
        let running = both.map(|(project, name)| {
            // A new runner has nothing.
            let pruned = project.command(&["cache", "prune"]).env("KILN_CACHE_SCOPE", machines.a.scope()).output();
            assert!(pruned.expect("it runs").status.success());
            project.write("Dockerfile", &text);
            project.write("main.txt", &format!("{name} {round}\n"));
            machines.start(project, "--set", &remote)
        });
        for (running, (project, name)) in running.into_iter().zip(both) {
            let ran = running.wait();
            assert_eq!(ran.code, Some(0), "{}", ran.stderr);
            assert_eq!(project.read("out/main.txt"), format!("{name} {round}\n"));
            assert!(round == 0 || ran.stderr.contains("restored named"), "{}", ran.stderr);
        }
    }
    let seen = machines.a.read("out/seen").lines().count();
    assert!((7..=15).contains(&seen), "{seen}");
    let ran = machines.a.kiln(&["cache", "verify", "--remote", &store]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn the_cache_of_github_serves_and_what_it_refuses_costs_time_alone() {
    let Some(mut machines) = Machines::new() else { return };
    let server = GithubCache::start();
    machines.variables = server.variables().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let saved = machines.run(&machines.a, "--cache-to", "type=gha,mode=max");
    assert!(saved.stderr.contains("saved to"), "{}", saved.stderr);
    let ran = machines.run(&machines.b, "--cache-from", "type=gha");
    assert!(ran.stderr.contains("restored the result"), "{}", ran.stderr);
    machines.b.write("main.txt", "two\n");
    let ran = machines.run(&machines.b, "--cache-from", "type=gha");
    assert!(ran.stderr.contains("restored 1 stage") && ran.stderr.contains("restored tool"), "{}", ran.stderr);
    assert!(machines.b.read("out/seen").contains("one\n"));
    assert!(!ran.stderr.contains(&server.token) && !saved.stderr.contains(&server.token));
    // Of a fork: it may read, and what it cannot write costs a notice.
    machines.variables.retain(|(name, _)| name != "ACTIONS_RUNTIME_TOKEN");
    machines.variables.push(("ACTIONS_RUNTIME_TOKEN".to_owned(), server.read_only_token("refs/heads/main")));
    machines.b.write("main.txt", "three\n");
    let ran = machines.run(&machines.b, "--cache-to", "type=gha");
    assert!(ran.stderr.contains("not saved") && ran.stderr.contains("may read alone"), "{}", ran.stderr);
    // Without the variables there is no way in, and one clear error.
    machines.variables.clear();
    let ran = machines.start(&machines.b, "--cache-from", "type=gha").wait();
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("ACTIONS_RESULTS_URL"), "{}", ran.stderr);
}

#[test]
fn what_is_saved_by_hand_can_be_looked_at_and_mended() {
    let Some(machines) = Machines::new() else { return };
    machines.run(&machines.a, "--progress", "plain");
    let scope = format!("cache.scope={}", machines.a.scope());
    let store = machines.store.path().display().to_string();
    let hand = |project: &Project, arguments: &[&str]| {
        let more = ["-f", "Dockerfile", "--platform=linux/amd64", "-o", "out", "--set", &scope, "."];
        let ran = project.kiln(&[&["cache"], arguments, &more].concat());
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        ran.stderr
    };
    assert!(hand(&machines.a, &["save", "--to", &store, "--only", "tool,stages"]).contains("saved to"));
    assert!(hand(&machines.a, &["save", "--to", &store, "--only", "tool,stages"]).contains("nothing is new"));
    let said = hand(&machines.b, &["restore", "--from", &store, "--only", "tool"]);
    assert!(said.contains("restored tool") && !said.contains("stage"), "{said}");
    let kiln = |arguments: &[&str]| machines.a.kiln(&[&["cache"], arguments, &["--remote", &store]].concat());
    let listed = kiln(&["ls", "--json"]).stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let series: Vec<&str> = listed.as_array().into_iter().flatten().filter_map(|one| one["series"].as_str()).collect();
    assert_eq!(series.len(), 2, "{listed}");
    assert!(kiln(&["du"]).stdout.contains("(all)"));
    assert_eq!(kiln(&["verify"]).code, Some(0));
    let pack = std::fs::read_dir(machines.store.path().join("packs")).expect("packs").flatten().next().expect("one");
    std::fs::write(pack.path(), "nonsense").expect("written");
    let ran = kiln(&["verify"]);
    assert!(ran.code == Some(1) && ran.stderr.contains("1 removed"), "{}", ran.stderr);
    assert!(!pack.path().exists());
    // The next save makes it anew.
    assert!(hand(&machines.a, &["save", "--to", &store, "--only", "tool,stages"]).contains("object"));
    assert_eq!(kiln(&["verify"]).code, Some(0));
    assert!(kiln(&["prune", "--older-than", "1d"]).stderr.contains("removed 0 objects"));
    kiln(&["prune", "--keep-size", "0B"]);
    assert!(kiln(&["ls", "--json"]).stdout.starts_with("[]"));
    assert!(!machines.store.path().join("series").exists());
}

#[test]
fn a_volume_is_the_same_whoever_copies_it() {
    let Some(machines) = Machines::new() else { return };
    // Everything that a cache may have, under names that no header of an archive has room for.
    let fill = "mkdir -p 'a b' $L; echo 1 > 'a b/x'; chmod 600 'a b/x'; chown 12:34 'a b/x'; : > empty; \
                head -c 3000000 /dev/urandom > $L/big; ln $L/big same; ln -s ../x 'a b/up'; ln -s $L$L far; ln -s /etc out; \
                mkfifo pipe; chmod 1777 $L; touch -h -d '2002-02-02 00:00:00' far; \
                touch -d '2003-03-03 00:00:00' empty 'a b/x'";
    let look = "find . ! -type d -exec stat -c '%n %f %u %g %Y %h %s' {} + | sort; find . -type d -exec stat -c '%n %f %u' {} + \
                | sort; find . -type f -exec sha256sum {} + | sort; readlink far";
    let text = format!(
        "FROM alpine:3.20 AS build\nENV RUN_ID={}\nENV L={}\nCOPY main.txt /\n\
         RUN --mount=type=cache,id=odd,target=/cache cd /cache && if grep -q fill /main.txt; then {fill}; fi; \
         rm -f pipe out; ({look}) > /seen\nFROM scratch\nCOPY --from=build /seen /\n",
        machines.a.scope(),
        "long".repeat(35),
    );
    for project in [&machines.a, &machines.b] {
        project.write("Dockerfile", &text.replace("rm -f pipe out; ", ""));
        project.write("main.txt", "fill\n");
    }
    machines.run(&machines.a, "--progress", "plain");
    // A socket's name may have about a hundred bytes, so there is none in such a folder.
    let far = machines.store.path().join("t".repeat(120));
    std::fs::create_dir(&far).expect("made");
    let store = machines.store.path().join("store").display().to_string();
    let scope = format!("cache.scope={}", machines.a.scope());
    let hand = |project: &Project, command: &[&str], by_daemon: bool| {
        let more = ["--only", "odd", "-f", "Dockerfile", "--platform=linux/amd64", "-o", "out", "--set", &scope, "."];
        let mut kiln = project.command(&[&["cache"], command, &more].concat());
        kiln.env("KILN_LOG", "kiln_solver=debug");
        if by_daemon {
            kiln.env("TMPDIR", &far);
        }
        let ran = Running::start(kiln).wait();
        assert_eq!(ran.code, Some(0), "{command:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.contains("no socket for a volume"), by_daemon, "{}", ran.stderr);
        ran.stderr
    };
    let said = hand(&machines.a, &["save", "--to", &store], false);
    assert!(said.contains("2 files of odd were not saved"), "{said}");
    assert!(hand(&machines.a, &["save", "--to", &store], true).contains("nothing is new"));
    machines.a.write("main.txt", "look\n");
    machines.a.write("Dockerfile", &text);
    machines.run(&machines.a, "--progress", "plain");
    let seen = machines.a.read("out/seen");
    assert!(seen.contains("./a b/x 8180 12 34 1046649600 1 2") && seen.contains(" 2 3000000"), "{seen}");
    machines.b.write("Dockerfile", &text);
    for by_daemon in [false, true] {
        hand(&machines.b, &["restore", "--from", &store], by_daemon);
        machines.b.write("main.txt", if by_daemon { "look again\n" } else { "look\n" });
        machines.run(&machines.b, "--progress", "plain");
        assert_eq!(machines.b.read("out/seen"), seen, "by the daemon: {by_daemon}");
        let ran = machines.b.kiln(&["cache", "prune", "--all", "--only", "odd"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    }
}

#[test]
fn a_machine_that_begins_empty_remembers_what_others_took() {
    let Some(machines) = Machines::new() else { return };
    machines.run(&machines.a, "--cache-to", &machines.to());
    machines.run(&machines.b, "--cache-from", &machines.from());
    let list = machines.b.kiln(&["history", "ls", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list.stdout).expect("JSON");
    let cpus: Vec<_> = list.as_array().expect("a list").iter().map(|record| &record["machine"]["cpus"]).collect();
    assert_eq!(cpus.len(), 2, "its own build, and that of the other machine: {list}");
}

#[test]
fn a_base_image_is_pulled_only_if_a_step_runs() {
    let (Some(registry), Some(mut machines)) = (needed("KILN_TEST_REGISTRY"), Machines::new()) else { return };
    let name = format!("{registry}/kiln-e2e/base:{}", machines.a.scope());
    let push = |text: &str| {
        machines.a.write("base.Dockerfile", text);
        let to = format!("type=image,name={name},push=true");
        let ran = machines.a.kiln(&["build", "-f", "base.Dockerfile", "--platform=linux/amd64", "-o", &to, "."]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        machines.a.daemon().pull(&name, "linux/amd64".parse().expect("a platform"));
    };
    push("FROM alpine:3.20\nENV WORD=one\n");
    let text = format!(
        "FROM {name} AS build\nCOPY main.txt /\nRUN echo $WORD $(cat /main.txt) > /out\nFROM scratch\nCOPY --from=build /out /\n"
    );
    for project in [&machines.a, &machines.b] {
        project.write("Dockerfile", &text);
    }
    machines.save_a();
    let ran = machines.build_b();
    assert!(ran.stderr.contains("restored the result") && !ran.stderr.contains("pulling"), "{}", ran.stderr);
    assert_eq!(machines.b.read("out/out"), "one one\n");
    assert!(machines.b.daemon().image(&name).is_none());
    machines.b.write("main.txt", "two\n");
    let ran = machines.build_b();
    assert!(!ran.stderr.contains("restored the result") && ran.stderr.contains("pulling"), "{}", ran.stderr);
    assert_eq!(machines.b.read("out/out"), "one two\n");
    // What a store knows of a name counts only as long as the registry means the same by it.
    push("FROM alpine:3.20\nENV WORD=other\n");
    let Some(fresh) = Project::new(&[("Dockerfile", text.as_str()), ("main.txt", "one\n")]) else { return };
    machines.b.daemon().remove_whole_image(&machines.b.daemon().image(&name).expect("it was pulled").id);
    machines.b = fresh.on(&needed("KILN_TEST_OTHER_DAEMON").expect("it is there"));
    let ran = machines.build_b();
    assert!(!ran.stderr.contains("restored the result") && ran.stderr.contains("pulling"), "{}", ran.stderr);
    assert_eq!(machines.b.read("out/out"), "other one\n");
}
