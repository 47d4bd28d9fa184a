//! What a build leaves behind, cut down.

/// A report of Nuitka 4.3.3.
pub(crate) const REPORT: &str = include_str!("../tests/fixture/report.xml");

/// A list of materials of the Debian recipe.
pub(crate) const MATERIALS: &str = include_str!("../tests/fixture/materials.json");

/// SHA-256 of the program that [`MATERIALS`] are of.
pub(crate) const SHA256: &str = "1bd8e0ee74ae1ad7a5b5e9fb0c3dd2ffa3b4c1f1d9c8d1ffaa10a4c9b9a2f0d1";
