//! The kernel's handlers for foreign programs, read and written from a privileged container.
//!
//! `binfmt_misc` is not visible in containers, so the script mounts it. Since Linux 6.7 its handlers vanish with its
//! last mount: where the machine has none, the script makes one in the mount namespace of its parent process, a part of
//! the daemon, or a handler would be gone with the container that registered it.

use std::fmt::Write as _;

use kiln_graph::{Arch, Platform};

use super::{Ran, binfmt, run_created};
use crate::{ContainerSpec, Engine, EngineError, ImageId, Result, probe_image, toolbox};

/// Where `binfmt_misc` belongs.
const PRELUDE: &str = r#"
dir=/proc/sys/fs/binfmt_misc
machine() { nsenter --mount=/proc/$PPID/ns/mnt -- "$@"; }
if ! machine test -e $dir/register 2>/dev/null; then
    [ -z "$persist" ] || machine mount -t binfmt_misc binfmt_misc $dir 2>/dev/null || echo "kiln unpinned"
fi
if [ ! -e $dir/register ] && ! problem=$(mount -t binfmt_misc binfmt_misc $dir 2>&1); then
    echo "kiln unmountable $problem"
    exit 0
fi
if ! [ -w $dir/register ]; then echo "kiln unmountable permission denied"; exit 0; fi
"#;

const LIST: &str = r#"
for file in $dir/*; do
    case "${file##*/}" in register|status) continue ;; esac
    echo "kiln handler ${file##*/}"
    cat "$file"
done
echo "kiln done"
"#;

/// One handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// Its name under `/proc/sys/fs/binfmt_misc`.
    pub name: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// The program that it runs.
    pub interpreter: String,
    /// Its flags: `F` was opened at registration, `P` keeps `argv[0]`, `O` opens the binary, `C` takes its credentials.
    pub flags: String,
    /// The architecture it is for; `None` for other kinds of files.
    pub arch: Option<Arch>,
}

impl Handler {
    /// Whether it works inside containers, whose files do not include the interpreter.
    pub fn fixed(&self) -> bool {
        self.flags.contains('F')
    }

    /// Whether kiln registered it.
    pub fn is_ours(&self) -> bool {
        self.name.starts_with(PREFIX)
    }
}

/// What the names of our handlers start with.
pub(super) const PREFIX: &str = "kiln-";

/// The handlers of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handlers {
    /// All of them.
    pub list: Vec<Handler>,
    /// Whether they outlive our container; if not, the kernel forgets them with its last mount of `binfmt_misc`.
    pub pinned: bool,
}

/// Reads the handlers and changes nothing.
pub(super) async fn read(engine: &dyn Engine, image: &ImageId) -> Result<Handlers> {
    let output = script(engine, image, false, LIST).await?;
    parse(&output)
}

/// Reads the handlers with kiln's own program, so that no image with a shell is needed; none where kiln has no program for
/// the daemon's machine.
pub(super) async fn look(engine: &dyn Engine) -> Result<Option<Handlers>> {
    if kiln_twin::program(engine.info().arch).is_none() {
        return Ok(None);
    }
    let (volume, image) = futures::try_join!(toolbox::ensure_toolbox(engine, &[]), probe_image::ensure(engine))?;
    let argv = [kiln_twin::PROGRAM, "handlers", probe_image::FOLDER].map(str::to_owned).into();
    let spec = ContainerSpec {
        privileged: true,
        mounts: vec![toolbox::mount(&volume)],
        ..probe_image::container(&image, engine, "emulation", argv)
    };
    let ran = run_privileged(engine, &spec).await?;
    if !ran.output.contains("kiln ") {
        let problem = format!("kiln's program ended with {}: {}", ran.exit.code, ran.output.trim());
        return Err(failed(engine, &problem, ""));
    }
    parse(&ran.output).map(Some)
}

/// Reads the handlers, and makes sure that what is registered afterwards stays.
pub(super) async fn read_and_pin(engine: &dyn Engine, image: &ImageId) -> Result<Handlers> {
    let output = script(engine, image, true, LIST).await?;
    parse(&output)
}

/// One change.
pub(super) enum Change<'a> {
    Remove(&'a str),
    Register { arch: Arch, flags: &'a str },
}

/// Makes changes and reads the handlers again.
pub(super) async fn change(engine: &dyn Engine, image: &ImageId, changes: &[Change<'_>]) -> Result<Handlers> {
    let mut body = String::new();
    for change in changes {
        let written = match change {
            Change::Remove(name) => writeln!(body, "printf %s -1 > $dir/{}", quote(name)),
            Change::Register { arch, flags } => {
                let rule = binfmt::rule(*arch);
                let name = arch.qemu_name();
                writeln!(
                    body,
                    "qemu=\nfor path in /usr/bin/qemu-{name}-static /usr/bin/qemu-{name} /usr/local/bin/qemu-{name}; do\n    \
                     [ -x $path ] && qemu=$path && break\ndone\n\
                     if [ -z \"$qemu\" ]; then echo 'kiln missing {name}'\n\
                     elif ! problem=$( {{ printf %s ':{PREFIX}{name}:M::{magic}:{mask}:'$qemu':{flags}' > $dir/register; }} 2>&1 ); then\n    \
                     echo \"kiln refused {name} $problem\"\nfi",
                    magic = binfmt::escaped(&rule.magic),
                    mask = binfmt::escaped(&rule.mask),
                )
            }
        };
        written.expect("writing to a string");
    }
    body.push_str(LIST);
    parse(&script(engine, image, true, &body).await?)
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

async fn script(engine: &dyn Engine, image: &ImageId, persist: bool, body: &str) -> Result<String> {
    let text = format!("persist={}\n{PRELUDE}{body}", if persist { "1" } else { "" });
    let ran = privileged(engine, image, vec!["/bin/sh".to_owned(), "-c".to_owned(), text]).await?;
    if ran.exit.code != 0 && !ran.output.contains("kiln done") {
        return Err(failed(
            engine,
            &format!("the container for it ended with {}: {}", ran.exit.code, ran.output.trim()),
            "",
        ));
    }
    Ok(ran.output)
}

/// Runs a command in a privileged container of `image`.
pub(super) async fn privileged(engine: &dyn Engine, image: &ImageId, argv: Vec<String>) -> Result<Ran> {
    let spec = ContainerSpec { privileged: true, ..probe_image::container(image, engine, "emulation", argv) };
    run_privileged(engine, &spec).await
}

async fn run_privileged(engine: &dyn Engine, spec: &ContainerSpec) -> Result<Ran> {
    let id = engine.create_host_container(spec).await.map_err(|error| refused(engine, error))?;
    let ran = run_created(engine, &id).await;
    let removed = engine.remove_container(&id).await;
    let ran = ran.map_err(|error| refused(engine, error))?;
    removed.map(|()| ran)
}

/// A daemon that does not start privileged containers says so in many ways.
fn refused(engine: &dyn Engine, error: EngineError) -> EngineError {
    let message = match &error {
        EngineError::Api { status: 403, message, .. } => message,
        EngineError::Api { message, .. } | EngineError::CannotStart { message }
            if ["privileged", "permitted", "permission denied", "authorization"]
                .iter()
                .any(|text| message.contains(text)) =>
        {
            message
        }
        EngineError::CannotStart { message } if message.contains("/bin/sh") => {
            return failed(
                engine,
                &format!("the QEMU image has no shell: {message}"),
                "use an image with /bin/sh and /usr/bin/qemu-*-static",
            );
        }
        _ => return error,
    };
    failed(
        engine,
        &format!("the daemon refuses privileged containers: {message}"),
        "have the machine's administrator install emulation once (Debian: `apt install qemu-user-static`)",
    )
}

/// An error that is not about one platform in particular names the daemon's.
fn failed(engine: &dyn Engine, reason: &str, hint: &str) -> EngineError {
    EngineError::Emulation {
        platform: Platform::linux(engine.info().arch),
        reason: reason.to_owned(),
        hint: hint.to_owned(),
    }
}

/// What an error says, for a status that goes on without.
pub(super) fn reason(error: &EngineError) -> String {
    match error {
        EngineError::Emulation { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

/// Reads the script's output. Errors name no platform of their own: the caller puts it in.
fn parse(output: &str) -> Result<Handlers> {
    let mut handlers = Handlers { list: Vec::new(), pinned: true };
    for line in output.lines() {
        if let Some(rest) = line.strip_prefix("kiln ") {
            let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            match word {
                "handler" => handlers.list.push(Handler {
                    name: rest.to_owned(),
                    enabled: false,
                    interpreter: String::new(),
                    flags: String::new(),
                    arch: None,
                }),
                "unpinned" => handlers.pinned = false,
                "unmountable" => return Err(unmountable(rest)),
                "missing" => return Err(missing(rest)),
                "refused" => return Err(not_registered(rest)),
                _ => {}
            }
            continue;
        }
        let Some(handler) = handlers.list.last_mut() else { continue };
        match line.split_once(' ') {
            None if line == "enabled" => handler.enabled = true,
            Some(("interpreter", path)) => path.clone_into(&mut handler.interpreter),
            Some(("flags:", flags)) => flags.trim().clone_into(&mut handler.flags),
            Some(("magic", magic)) => handler.arch = binfmt::bytes(magic).and_then(|magic| binfmt::arch_of(&magic)),
            _ => {}
        }
    }
    Ok(handlers)
}

fn by_qemu_name(text: &str) -> (Platform, &str) {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let arch = Arch::ALL.into_iter().find(|arch| arch.qemu_name() == name).unwrap_or(Arch::Arm64);
    (Platform::linux(arch), rest)
}

fn missing(text: &str) -> EngineError {
    let (platform, _) = by_qemu_name(text);
    let name = platform.arch.qemu_name();
    EngineError::Emulation {
        platform,
        reason: format!("the QEMU image has no /usr/bin/qemu-{name}-static"),
        hint: "use another image with `--qemu-image`; it may be kiln's own, or one like tonistiigi/binfmt".to_owned(),
    }
}

fn not_registered(text: &str) -> EngineError {
    let (platform, problem) = by_qemu_name(text);
    EngineError::Emulation {
        platform,
        reason: format!("the kernel refused the handler: {problem}"),
        hint: "look at the daemon machine's kernel log".to_owned(),
    }
}

fn unmountable(problem: &str) -> EngineError {
    let lower = problem.to_ascii_lowercase();
    let (reason, hint) = if lower.contains("unknown filesystem") || lower.contains("no such device") {
        (
            "the daemon's kernel has no binfmt_misc",
            "load it on the daemon's machine (`sudo modprobe binfmt_misc`), or use a kernel with CONFIG_BINFMT_MISC",
        )
    } else {
        (
            "binfmt_misc cannot be mounted",
            "the daemon must be allowed to run privileged containers, in the machine's own user namespace",
        )
    };
    EngineError::Emulation {
        platform: Platform::linux(Arch::Arm64),
        reason: format!("{reason} ({problem})"),
        hint: hint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_read_as_the_kernel_writes_them() {
        let text = "kiln handler qemu-aarch64\nenabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: POF\noffset 0\n\
                    magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n\
                    kiln handler python3\ndisabled\ninterpreter /usr/bin/python3\nflags: \nextension .pyc\nkiln done\n";
        let handlers = parse(text).unwrap();
        assert!(handlers.pinned);
        let [qemu, python] = &handlers.list[..] else { panic!("{handlers:?}") };
        assert!(qemu.enabled && qemu.fixed() && !qemu.is_ours());
        assert_eq!(qemu.arch, Some(Arch::Arm64));
        assert!(!python.enabled && !python.fixed() && python.arch.is_none());
    }

    #[test]
    fn failures_are_told_apart() {
        let said = |text: &str| match parse(text) {
            Err(EngineError::Emulation { platform, reason, .. }) => format!("{platform}: {reason}"),
            other => panic!("{other:?}"),
        };
        assert!(
            said("kiln unmountable mount: unknown filesystem type 'binfmt_misc'").contains("kernel has no binfmt_misc")
        );
        assert!(said("kiln unmountable mount: permission denied").contains("cannot be mounted"));
        assert_eq!(said("kiln missing riscv64"), "linux/riscv64: the QEMU image has no /usr/bin/qemu-riscv64-static");
        assert!(said("kiln refused s390x printf: I/O error").starts_with("linux/s390x: the kernel refused"));
    }
}
