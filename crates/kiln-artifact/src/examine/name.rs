//! What the name of a file says of the architecture that it is for.

use kiln_graph::Arch;

/// The architecture in the name of an artifact, as release pages write it: `hello-1.2-linux-arm64.tar.gz`,
/// `hello_1.2_amd64.deb`, `hello-linux-x86_64`. The last one counts: programs have names, too.
pub fn arch_of_name(name: &str) -> Option<Arch> {
    // The one name with a separator in it.
    let name = name.to_ascii_lowercase().replace("x86_64", "amd64").replace("x86-64", "amd64");
    let words: Vec<&str> = name.split(['-', '_', '.', '+']).collect();
    words.iter().enumerate().rev().find_map(|(index, word)| {
        let is_behind_system = index > 0 && words[index - 1] == "linux";
        match *word {
            // Words that mean other things as well.
            "arm" | "386" | "x86" if !is_behind_system => None,
            word => arch_of_package(word),
        }
    })
}

/// The architecture that a package manager calls by this name; none for those of all machines (`all`, `noarch`).
pub fn arch_of_package(name: &str) -> Option<Arch> {
    match name {
        "x86" => Some(Arch::I386),
        "x64" => Some(Arch::Amd64),
        "armv7hl" => Some(Arch::ArmV7),
        name => Arch::from_machine(name),
    }
}
