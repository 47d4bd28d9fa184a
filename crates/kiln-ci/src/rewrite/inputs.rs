//! Inputs of docker's actions: which the action of kiln has, and why it has not the others.

/// What becomes of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// The action has it under the same name.
    Same,
    /// It is not needed.
    NotNeeded(&'static str),
    /// It cannot be carried over.
    Lost(&'static str),
}

/// Inputs of docker/build-push-action that the action has under the same name.
const SAME: [&str; 27] = [
    "add-hosts",
    "annotations",
    "build-args",
    "build-contexts",
    "cache-from",
    "cache-to",
    "call",
    "cgroup-parent",
    "context",
    "file",
    "labels",
    "load",
    "network",
    "no-cache",
    "no-cache-filters",
    "outputs",
    "platforms",
    "pull",
    "push",
    "secret-envs",
    "secret-files",
    "secrets",
    "shm-size",
    "ssh",
    "tags",
    "target",
    "ulimit",
];

/// An input of docker/build-push-action.
pub(super) fn build(name: &str, value: &str) -> Input {
    let is_off = matches!(value.trim(), "false" | "" | "disabled=true");
    match name {
        name if SAME.contains(&name) => Input::Same,
        "builder" => Input::NotNeeded("kiln has no builders"),
        "provenance" | "sbom" | "attests" if is_off => Input::NotNeeded("kiln writes no attestations"),
        "provenance" | "sbom" | "attests" => Input::Lost("kiln writes no attestations yet"),
        "allow" => Input::NotNeeded("kiln forbids no step what it asks for"),
        "github-token" => Input::NotNeeded("the context is the folder that was checked out"),
        _ => Input::Lost("the action of kiln has no such input"),
    }
}

/// An input of docker/bake-action.
pub(super) fn bake(name: &str, value: &str) -> Input {
    match name {
        "files" | "targets" | "set" | "vars" | "push" | "load" | "no-cache" | "pull" => Input::Same,
        "workdir" if matches!(value.trim(), "." | "") => Input::NotNeeded("it is where the step runs"),
        "workdir" => Input::Lost("the action has it as `working-directory`"),
        "source" if matches!(value.trim(), "." | "") => Input::NotNeeded("the bake file is read from the folder"),
        "source" => Input::Lost("kiln reads bake files from the folder that was checked out"),
        "builder" | "allow" | "github-token" | "provenance" | "sbom" => build(name, value),
        _ => Input::Lost("the action of kiln has no such input"),
    }
}

/// What in `outputs` kiln does not do, so that docker's action has to stay.
pub(crate) fn blocked(outputs: &str) -> Option<&'static str> {
    let is_set = |name: &str| outputs.contains(&format!("{name}=true")) || outputs.contains(&format!("{name}=1"));
    if is_set("push-by-digest") {
        return Some(
            "kiln pushes an image of all platforms at once, not each by its digest; build all platforms in one step",
        );
    }
    let is_other = outputs.contains("compression=zstd") || outputs.contains("compression=estargz");
    is_other.then_some("kiln compresses layers with gzip or not at all")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_action_has_what_is_carried_over() {
        let action = include_str!("../../../../action.yml");
        let of_bake = ["files", "targets", "set", "vars", "bake"];
        for name in SAME.into_iter().chain(of_bake) {
            assert!(action.lines().any(|line| line == format!("  {name}:")), "{name}");
        }
    }
}
