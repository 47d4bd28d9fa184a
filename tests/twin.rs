//! The native twin against plain emulation: the same program, built both ways, must be the same in all but time.

use kiln_e2e::needed;
use kiln_e2e::same::{EMULATED, assert_same, build, project};

/// Asks all that a program can know of its machine and its interpreter, and uses an extension module and data of others.
/// Small ones: emulated, each module that is compiled takes a minute. `long` has the large ones.
const FACTS: &str = r#"
import hashlib, json, math, platform, sqlite3, ssl, struct, sys, sysconfig
import certifi, markupsafe, markupsafe._speedups

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
    "text": markupsafe.escape("<naïve façade>"),
    "extension": markupsafe._speedups.__file__.rsplit(".", 1)[-1],
    "roots": hashlib.sha256(open(certifi.where(), "rb").read()).hexdigest(),
}, indent=1))
"#;

#[test]
fn a_program_for_glibc_is_the_same_either_way() {
    let requirements = r#""certifi==2025.10.5", "MarkupSafe==3.0.3""#;
    let Some(project) = project("debian", "", requirements, FACTS) else { return };
    project.unoptimized("debian");
    // Nothing of the one is of use to the other: the toolchain is installed twice as well.
    let twin = build(&project, "program", "debian:bookworm", "twin", &[]);
    let emulated = build(&project, "program", "debian:bookworm", "qemu", EMULATED);
    assert_same(&twin, &emulated);
    assert!(twin.output.contains("\"machine\": \"aarch64\""), "{}", twin.output);
}

/// The same questions in short: emulated, each imported module costs seconds.
const SHORT_FACTS: &str = r#"
import platform, struct, sys, sysconfig
import markupsafe, markupsafe._speedups

if "--version" in sys.argv:
    print("facts 1.0")
    sys.exit()
print(platform.machine(), platform.architecture()[0], platform.python_version(), sys.version, sys.maxsize, sys.byteorder)
print(struct.calcsize("P"), struct.calcsize("l"), sysconfig.get_platform(), sysconfig.get_config_var("EXT_SUFFIX"))
print(markupsafe.escape("<a & b>"), markupsafe._speedups.__file__.rsplit(".", 1)[-1])
"#;

#[test]
fn a_program_for_musl_is_the_same_either_way() {
    let Some(image) = needed("KILN_TEST_MUSL_IMAGE") else { return };
    let Some(project) = project("alpine", &image, r#""MarkupSafe==3.0.3""#, SHORT_FACTS) else { return };
    project.unoptimized("alpine");
    let twin = build(&project, "program", "alpine:3.20", "twin", &[]);
    let emulated = build(&project, "program", "alpine:3.20", "qemu", EMULATED);
    assert_same(&twin, &emulated);
}
