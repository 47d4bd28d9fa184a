//! Automation for the people who work on kiln.
fn main() {}
