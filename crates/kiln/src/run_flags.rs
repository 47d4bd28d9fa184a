//! Options of `kiln build` that are about running steps, with the names and forms of `docker buildx build`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_docker::{Limits, NetworkSpec, Ulimit};
use kiln_solver::{Secret, StepSettings};

use crate::cli;
use crate::environment::Environment;
use crate::error::{CliError, Result};
use crate::fields;

/// The most that a secret may have, in bytes: as with BuildKit.
const LARGEST_SECRET: u64 = 500 * 1024;

/// Reads the options, and the secrets behind them. `host` is the daemon's address.
pub(crate) fn read(args: &cli::Build, environment: &Environment, host: &str) -> Result<StepSettings> {
    let mut settings = StepSettings {
        extra_hosts: args.add_host.iter().map(|host| add_host(host)).collect::<Result<_>>()?,
        limits: limits(args)?,
        ..StepSettings::default()
    };
    if let Some(network) = &args.network {
        settings.network = match network.as_str() {
            "default" | "bridge" | "" => NetworkSpec::Bridge,
            "none" => NetworkSpec::None,
            "host" => NetworkSpec::Host,
            name => NetworkSpec::Named(name.to_owned()),
        };
    }
    for text in &args.secret {
        let (id, secret) = secret(text, environment)?;
        settings.secrets.insert(id, secret);
    }
    settings.agents = agents(&args.ssh, environment, host)?;
    Ok(settings)
}

/// What a step may use of the machine.
fn limits(args: &cli::Build) -> Result<Limits> {
    let mut limits = Limits {
        shm_size: args.shm_size.as_deref().map(|size| bytes("--shm-size", size)).transpose()?,
        ulimits: args.ulimit.iter().map(|limit| ulimit(limit)).collect::<Result<_>>()?,
        ..Limits::default()
    };
    for (name, value) in args.resources.all() {
        resource(&mut limits, name, value)?;
    }
    if limits.memory_swap.is_some() && limits.memory.is_none() {
        return Err(usage("--memory-swap needs --memory".to_owned(), "write --memory 1g --memory-swap 2g"));
    }
    Ok(limits)
}

/// Sets one limit, by the name of its option.
fn resource(limits: &mut Limits, name: &str, value: &str) -> Result<()> {
    fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<Option<T>> {
        let wrong = |_| usage(format!("--{name} `{value}` is no number"), "write a whole number");
        value.parse().map(Some).map_err(wrong)
    }
    match name {
        "memory" => limits.memory = Some(bytes("--memory", value)?),
        "memory-swap" if value == "-1" => limits.memory_swap = Some(-1),
        "memory-swap" => limits.memory_swap = i64::try_from(bytes("--memory-swap", value)?).ok(),
        "cpus" => limits.nano_cpus = Some(cpus(value)?),
        "cpu-shares" => limits.cpu_shares = number(name, value)?,
        "cpu-period" => limits.cpu_period = number(name, value)?,
        "cpu-quota" => limits.cpu_quota = number(name, value)?,
        "cpuset-cpus" => limits.cpuset_cpus = Some(value.to_owned()),
        "cpuset-mems" => limits.cpuset_mems = Some(value.to_owned()),
        "cgroup-parent" => limits.cgroup_parent = Some(value.to_owned()),
        _ => {
            return Err(usage(
                format!("--resource `{name}={value}`: there is no resource `{name}`"),
                "known are memory, memory-swap, cpus, cpu-shares, cpu-period, cpu-quota, cpuset-cpus, cpuset-mems",
            ));
        }
    }
    Ok(())
}

/// A number of processors such as 1.5, in billionths of one.
fn cpus(text: &str) -> Result<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let number = if part.len() <= 9 && is_number(whole) && is_number(part) {
        format!("{whole}{part:0<9}").parse::<u64>().ok().filter(|number| *number > 0)
    } else {
        None
    };
    number.ok_or_else(|| usage(format!("--resource cpus={text} is no number of processors"), "write cpus=1.5"))
}

fn usage(problem: String, hint: &str) -> CliError {
    CliError::Usage { problem, hint: hint.to_owned() }
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`.
fn add_host(text: &str) -> Result<String> {
    let split = text.split_once('=').or_else(|| text.split_once(':'));
    match split {
        Some((name, address)) if !name.is_empty() && !address.is_empty() => {
            Ok(format!("{name}:{}", address.trim_matches(['[', ']'])))
        }
        _ => Err(usage(format!("--add-host `{text}` names no host and address"), "write --add-host NAME:ADDRESS")),
    }
}

/// A number of bytes, or one with b, k, m or g, in either case: the units are powers of 1024.
fn bytes(option: &str, text: &str) -> Result<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match lower[digits.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => Some(1),
        "k" => Some(1 << 10),
        "m" => Some(1 << 20),
        "g" => Some(1_u64 << 30),
        _ => None,
    };
    let size = digits.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    size.ok_or_else(|| usage(format!("{option} `{text}` is no size"), "write bytes, or a number with k, m or g: 128m"))
}

/// `NAME=SOFT[:HARD]`.
fn ulimit(text: &str) -> Result<Ulimit> {
    const NAMES: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    const HINT: &str = "write --ulimit NAME=SOFT[:HARD], such as nofile=1024:2048";
    let wrong = || usage(format!("--ulimit `{text}` is no limit"), HINT);
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    if !NAMES.contains(&name) {
        return Err(usage(
            format!("--ulimit `{text}`: there is no limit `{name}`"),
            &format!("known are {}", NAMES.join(", ")),
        ));
    }
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= -1).ok_or_else(wrong);
    let (soft, hard) = (number(soft)?, number(hard)?);
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(usage(format!("--ulimit `{text}`: the soft limit is above the hard one"), HINT));
    }
    Ok(Ulimit { name: name.to_owned(), soft, hard })
}

/// `id=ID[,src=FILE|env=VARIABLE][,type=file|env]`; an id alone is a variable of this name, else a file.
fn secret(text: &str, environment: &Environment) -> Result<(String, Secret)> {
    const HINT: &str = "write --secret id=ID,src=FILE or --secret id=ID,env=VARIABLE";
    let (mut id, mut kind, mut file, mut variable) = ("", "", None, None);
    let parts = fields::split(text);
    for part in &parts {
        match part.split_once('=') {
            Some(("id", value)) => id = value,
            Some(("type", value @ ("file" | "env"))) => kind = value,
            Some(("src" | "source", value)) => file = Some(value),
            Some(("env", value)) => variable = Some(value),
            _ => return Err(usage(format!("--secret `{text}`: `{part}` makes no sense here"), HINT)),
        }
    }
    if id.is_empty() {
        return Err(usage(format!("--secret `{text}` has no id"), HINT));
    }
    let variable = match (kind, variable, file) {
        // `type=env,src=NAME` is another way to say it.
        ("env", None, name) => Some(name.unwrap_or(id)),
        ("file", ..) => None,
        (_, None, None) => environment.get(id).map(|_| id),
        (_, variable, _) => variable,
    };
    if let Some(name) = variable {
        let value = environment.get(name).ok_or_else(|| CliError::Missing {
            problem: format!("--secret `{text}`: the variable {name} is not set"),
            hint: "export it, or give a file with src=".to_owned(),
        })?;
        return Ok((id.to_owned(), Secret::new(value.as_bytes().to_owned())));
    }
    let path = Path::new(file.unwrap_or(id));
    let size = std::fs::metadata(path).map_err(CliError::io("read the secret", path))?.len();
    if size > LARGEST_SECRET {
        return Err(usage(
            format!("--secret `{text}`: {} is larger than 500 KiB", path.display()),
            "a secret is a key or a token; what is larger belongs elsewhere",
        ));
    }
    let bytes = std::fs::read(path).map_err(CliError::io("read the secret", path))?;
    Ok((id.to_owned(), Secret::new(bytes)))
}

/// `ID[=SOCKET]`, by id.
fn agents(ssh: &[String], environment: &Environment, host: &str) -> Result<BTreeMap<String, PathBuf>> {
    let mut agents = BTreeMap::new();
    for text in ssh {
        let (id, socket) = text.split_once('=').map_or((text.as_str(), None), |(id, socket)| (id, Some(socket)));
        let socket = socket.or_else(|| environment.get("SSH_AUTH_SOCK")).filter(|socket| !socket.is_empty());
        let Some(socket) = socket.map(PathBuf::from) else {
            return Err(CliError::Missing {
                problem: format!("--ssh `{text}`: no agent runs here (SSH_AUTH_SOCK is not set)"),
                hint: "start one: eval $(ssh-agent) && ssh-add".to_owned(),
            });
        };
        let metadata = std::fs::metadata(&socket).map_err(CliError::io("find the agent's socket", &socket))?;
        if !std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()) {
            return Err(usage(
                format!("--ssh `{text}`: {} is no socket of an agent", socket.display()),
                "add the key to an agent with ssh-add, and give the agent's socket",
            ));
        }
        if !host.starts_with("unix://") {
            return Err(usage(
                format!("--ssh `{text}`: an agent can be forwarded only to a daemon on this machine, not to {host}"),
                "give the key as a secret instead: --secret id=key,src=FILE",
            ));
        }
        let socket = std::path::absolute(&socket).map_err(CliError::io("find", &socket))?;
        agents.insert(id.to_owned(), socket);
    }
    Ok(agents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_limits_and_sizes_have_the_forms_of_docker() {
        assert_eq!(add_host("a:1.2.3.4").unwrap(), "a:1.2.3.4");
        assert_eq!(add_host("a=::1").unwrap(), "a:::1");
        assert!(add_host("a").is_err() && add_host(":1").is_err());
        assert_eq!(bytes("-", "128m").unwrap(), 128 << 20);
        assert_eq!(bytes("-", "1G").unwrap(), 1 << 30);
        assert_eq!(bytes("-", "512").unwrap(), 512);
        assert!(bytes("-", "12x").is_err() && bytes("-", "m").is_err());
        assert_eq!(ulimit("nofile=1024").unwrap(), Ulimit { name: "nofile".into(), soft: 1024, hard: 1024 });
        assert_eq!(ulimit("nofile=1:2").unwrap().hard, 2);
        assert_eq!((cpus("1.5").unwrap(), cpus("2").unwrap()), (1_500_000_000, 2_000_000_000));
        assert!(["", "0", "x", "1.x", "-1"].iter().all(|text| cpus(text).is_err()));
        assert!(ulimit("nofiles=1").is_err() && ulimit("nofile=3:2").is_err() && ulimit("nofile").is_err());
    }

    #[test]
    fn resources_have_two_spellings() {
        let read = |options: &[&str]| {
            let line = ["kiln", "build"].into_iter().chain(options.iter().copied());
            let Some(cli::Command::Build(args)) =
                <cli::Cli as clap::Parser>::try_parse_from(line).expect("valid").command
            else {
                panic!("not a build")
            };
            limits(&args)
        };
        let long = read(&["--memory=1g", "--memory-swap=-1", "--cpu-shares=5", "--cpuset-cpus=0-1"]).expect("valid");
        let short = ["--resource=memory=1g,memory-swap=-1", "--resource=cpu-shares=5", "--resource=cpuset-cpus=0-1"];
        assert_eq!(read(&short).expect("valid"), long);
        assert_eq!((long.memory, long.memory_swap, long.cpu_shares), (Some(1 << 30), Some(-1), Some(5)));
        assert!(read(&["--resource=mem=1"]).is_err() && read(&["--memory-swap=1g"]).is_err());
    }
}
