//! The labels that kiln puts on everything it makes in a daemon. Whatever does not carry them is never touched.

/// On every object: the version of these rules.
pub const VERSION: &str = "kiln.version";
/// On containers: the id of the build that owns it.
pub const BUILD: &str = "kiln.build";
/// On containers: who owns it, as `HOST/PID/START` (see `kiln-solver`'s sweep). Lets a later run tell a dead owner.
pub const OWNER: &str = "kiln.owner";
/// On containers: what it is for: `step`, `copy`, `verify`, `probe`, `toolbox`, `emulation`, `doctor`.
pub const ROLE: &str = "kiln.role";
/// The role of a container that a person looks around in, and of the image that it stands on.
pub const SHELL: &str = "shell";
/// On checkpoint images: the cache key of the vertex.
pub const KEY: &str = "kiln.key";
/// On checkpoint images: the instruction, for people who list images.
pub const STEP: &str = "kiln.step";
/// On checkpoint images: mount points that the daemon left in them, a path a line.
pub const STUBS: &str = "kiln.stubs";
/// On checkpoint images: how long the step took, in milliseconds; 0 where nobody knows.
pub const TOOK: &str = "kiln.took";
/// On checkpoint images and volumes: the platform.
pub const PLATFORM: &str = "kiln.platform";
/// On checkpoint images and volumes: the scope (project).
pub const SCOPE: &str = "kiln.scope";
/// On cache volumes: the id of the cache.
pub const CACHE: &str = "kiln.cache";
/// On volumes that hold kiln's own small tools and certificates: the digest of the content.
pub const TOOLBOX: &str = "kiln.toolbox";
/// On volumes that hold native programs for steps of foreign platforms: the image that they were copied from.
pub const TWIN: &str = "kiln.twin";

/// How kiln's own names of base images begin. Their images are other people's and carry no label of kiln's.
pub const BASE_NAMES: &str = "kiln.local/base/";
/// How all names begin that kiln gives to images.
pub const NAMES: &str = "kiln.local/";

/// The value of [`VERSION`].
pub const CURRENT_VERSION: &str = "1";
