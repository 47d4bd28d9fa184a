//! The configuration of an image as BuildKit writes it. Source: OCI image-spec `config.md`, moby's
//! `DockerOCIImageConfig`, and BuildKit's `exporter/containerimage/writer.go` for the times of the history.

use std::collections::{BTreeMap, BTreeSet};

use kiln_graph::{Healthcheck, ImageConfig, Platform};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::time::rfc3339;

/// Who made an entry of the history, in BuildKit's words.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// One entry of the history that this build adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Past {
    /// The instruction.
    pub(crate) created_by: String,
    /// When its layer was made, in seconds since 1970; none where it has no layer of its own.
    pub(crate) layer: Option<i64>,
}

#[derive(Serialize)]
struct Document<'a> {
    architecture: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<&'a str>,
    config: Config<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Value>,
    history: Vec<Value>,
    os: &'a str,
    rootfs: RootFs<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

#[derive(Serialize)]
struct RootFs<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: &'a [String],
}

#[derive(Serialize)]
struct Entry<'a> {
    created: Option<&'a Value>,
    created_by: &'a str,
    comment: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    empty_layer: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty", serialize_with = "set")]
    exposed_ports: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<&'a [String]>,
    #[serde(skip_serializing_if = "<[String]>::is_empty", serialize_with = "set")]
    volumes: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    working_dir: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    args_escaped: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<Check<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    on_build: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<&'a [String]>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Check<'a> {
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    test: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_interval: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retries: Option<i64>,
}

/// Writes the configuration. `base` is the base image's history as it stands there, `own` what was added, and
/// `epoch` (`SOURCE_DATE_EPOCH`) the latest time that what was added may claim.
///
/// # Errors
/// None that depends on the input.
pub(crate) fn json(
    platform: Platform,
    config: &ImageConfig,
    diff_ids: &[String],
    base: &[Value],
    own: &[Past],
    epoch: Option<i64>,
) -> serde_json::Result<Vec<u8>> {
    let (architecture, variant) = platform.arch.oci();
    let history = history(base, own, epoch);
    let document = Document {
        architecture,
        author: config.author.as_deref(),
        config: shown(config),
        created: history.last().and_then(|entry| entry.get("created").cloned()).filter(|created| !created.is_null()),
        history,
        os: platform.os(),
        rootfs: RootFs { kind: "layers", diff_ids },
        variant,
    };
    serde_json::to_vec(&document)
}

fn history(base: &[Value], own: &[Past], epoch: Option<i64>) -> Vec<Value> {
    let clamp = |time: i64| Value::from(rfc3339(epoch.map_or(time, |epoch| time.min(epoch))));
    // What has no layer is as old as the layer before it; before the first layer, as old as that.
    let first = own.iter().find_map(|past| past.layer).map(clamp);
    let last_of_base = || base.iter().rev().find_map(|entry| entry.get("created").cloned());
    let mut time = first.or_else(|| epoch.map(clamp)).or_else(last_of_base);
    let mut entries = base.to_vec();
    for past in own {
        if let Some(layer) = past.layer {
            time = Some(clamp(layer));
        }
        let entry = Entry {
            created: time.as_ref(),
            created_by: &past.created_by,
            comment: COMMENT,
            empty_layer: past.layer.is_none(),
        };
        entries.extend(serde_json::to_value(entry));
    }
    entries
}

fn shown(config: &ImageConfig) -> Config<'_> {
    Config {
        user: &config.user,
        exposed_ports: &config.exposed_ports,
        env: config.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        entrypoint: config.entrypoint.as_deref(),
        cmd: config.cmd.as_deref(),
        volumes: &config.volumes,
        working_dir: &config.working_dir,
        labels: config.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        stop_signal: config.stop_signal.as_deref(),
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.as_ref().map(check),
        on_build: &config.on_build,
        shell: config.shell.as_deref(),
    }
}

/// A Go set: a map to nothing, sorted.
fn set<S: Serializer>(list: &&[String], serializer: S) -> Result<S::Ok, S::Error> {
    let sorted: BTreeSet<&String> = list.iter().collect();
    serializer.collect_map(sorted.into_iter().map(|item| (item, serde_json::Map::new())))
}

fn check(check: &Healthcheck) -> Check<'_> {
    Check {
        test: &check.test,
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check.start_interval,
        retries: check.retries,
    }
}

#[cfg(test)]
mod tests {
    use kiln_graph::Arch;

    use super::*;

    fn config() -> ImageConfig {
        let mut config = ImageConfig {
            cmd: Some(vec!["/bin/ash".into(), "-c".into(), "echo hi".into()]),
            entrypoint: Some(vec!["x".into()]),
            user: "1000".into(),
            working_dir: "/app".into(),
            exposed_ports: vec!["80/tcp".into(), "90/udp".into()],
            volumes: vec!["/data".into()],
            stop_signal: Some("SIGINT".into()),
            shell: Some(vec!["/bin/ash".into(), "-c".into()]),
            on_build: vec!["RUN echo x".into()],
            args_escaped: true,
            healthcheck: Some(Healthcheck {
                test: vec!["CMD-SHELL".into(), "true".into()],
                interval: Some(5_000_000_000),
                ..Healthcheck::default()
            }),
            ..ImageConfig::default()
        };
        config.labels.extend([("l".to_owned(), "m".to_owned()), ("x".to_owned(), "y".to_owned())]);
        config.set_env("PATH", "/bin");
        config.set_env("B", "two words");
        config
    }

    /// What buildx 0.29 made of the same Dockerfile, times aside.
    #[test]
    fn the_document_is_buildkits() {
        let base = [serde_json::json!({ "created": "2024-01-01T00:00:00.5Z", "created_by": "base" })];
        let past = |created_by: &str, layer| Past { created_by: created_by.into(), layer };
        let own = [
            past("ARG FOO=bar", None),
            past("WORKDIR /app", Some(1000)),
            past("USER 1000", None),
            past("RUN /bin/sh -c true # buildkit", Some(2000)),
            past("CMD [\"x\"]", None),
        ];
        let layers = ["sha256:a".to_owned(), "sha256:b".to_owned(), "sha256:c".to_owned()];
        let json = json(Platform::linux(Arch::Amd64), &config(), &layers, &base, &own, None).expect("JSON");
        let expected = concat!(
            r#"{"architecture":"amd64","config":{"User":"1000","ExposedPorts":{"80/tcp":{},"90/udp":{}},"#,
            r#""Env":["PATH=/bin","B=two words"],"Entrypoint":["x"],"Cmd":["/bin/ash","-c","echo hi"],"#,
            r#""Volumes":{"/data":{}},"WorkingDir":"/app","Labels":{"l":"m","x":"y"},"StopSignal":"SIGINT","#,
            r#""ArgsEscaped":true,"Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":5000000000},"#,
            r#""OnBuild":["RUN echo x"],"Shell":["/bin/ash","-c"]},"created":"1970-01-01T00:33:20Z","history":["#,
            r#"{"created":"2024-01-01T00:00:00.5Z","created_by":"base"},"#,
            r#"{"comment":"buildkit.dockerfile.v0","created":"1970-01-01T00:16:40Z","created_by":"ARG FOO=bar","empty_layer":true},"#,
            r#"{"comment":"buildkit.dockerfile.v0","created":"1970-01-01T00:16:40Z","created_by":"WORKDIR /app"},"#,
            r#"{"comment":"buildkit.dockerfile.v0","created":"1970-01-01T00:16:40Z","created_by":"USER 1000","empty_layer":true},"#,
            r#"{"comment":"buildkit.dockerfile.v0","created":"1970-01-01T00:33:20Z","created_by":"RUN /bin/sh -c true # buildkit"},"#,
            r#"{"comment":"buildkit.dockerfile.v0","created":"1970-01-01T00:33:20Z","created_by":"CMD [\"x\"]","empty_layer":true}],"#,
            r#""os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:a","sha256:b","sha256:c"]}}"#,
        );
        assert_eq!(String::from_utf8(json).expect("text"), expected);
    }

    #[test]
    fn an_epoch_is_the_latest_time_of_what_is_new() {
        let base = [serde_json::json!({ "created": "2024-01-01T00:00:00Z" })];
        let own = [Past { created_by: "RUN x".into(), layer: Some(i64::from(i32::MAX)) }];
        let entries = history(&base, &own, Some(1000));
        assert_eq!(entries[0]["created"], "2024-01-01T00:00:00Z");
        assert_eq!(entries[1]["created"], "1970-01-01T00:16:40Z");
        let arm = json(Platform::linux(Arch::ArmV7), &ImageConfig::default(), &[], &[], &[], None).expect("JSON");
        let text = String::from_utf8(arm).expect("text");
        assert!(text.starts_with(r#"{"architecture":"arm","config":{},"history":[]"#), "{text}");
        assert!(text.ends_with(r#""variant":"v7"}"#), "{text}");
    }
}
