//! Layered configuration with provenance.
//!
//! The caller reads files, environment and flags and hands them over as [`Layer`]s, together with what it found in the
//! project folder ([`ProjectFacts`]). [`Config::load`] checks every value against the table of [`keys`], and merges:
//! defaults < what the project shows < the user's file < the project's file < environment < flags. Inside one layer a
//! `[platform]` override wins over the general value; a higher layer wins over both. The result remembers where each value
//! comes from ([`Config::entries`]) and gives typed [`Settings`], for the whole project or for one platform.

mod artifact;
mod check;
mod config;
mod error;
mod facts;
mod init;
mod key;
mod kind;
mod layer;
mod mask;
pub mod pyproject;
mod raw;
mod read;
mod settings;
mod suggest;
mod units;
mod view;

pub use artifact::{ArtifactPattern, PatternError};
pub use config::{Config, Entry, Loaded};
pub use error::{ConfigError, Location, Place, Warning};
pub use facts::{ProjectFacts, SKIPPED_FOLDERS};
pub use init::init_toml;
pub use key::{Fallback, Key, Section, keys};
pub use kind::{FINDINGS, Item, Kind};
pub use layer::{FlagValue, Layer, LayerKind, Provenance};
pub use pyproject::{Pyproject, Script};
pub use settings::{
    BillForm, Build, BuildNetwork, Cache, Ci, DataMapping, Emulation, History, Jobs, Lto, Mode, Network, Nuitka,
    PlatformSettings, Program, Project, Publish, PythonImages, Recipe, Release, ReleaseDepends, ReleaseImage,
    Requirements, Settings, SignWith, Smoke, Test, TestCommand, Toggle, Twin, Verify,
};
pub use units::{ByteSize, UnitError, parse_duration};
