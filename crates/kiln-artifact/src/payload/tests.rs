use kiln_graph::Arch;

use super::testing::TinyPayload;
use super::*;
use crate::elf::testing::TinyElf;
use crate::elf::{GlibcVersion, Libc};

fn read_bytes(bytes: &[u8]) -> Result<Option<Payload>, PayloadError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    fs_err::write(&path, bytes).unwrap();
    read(&path)
}

/// A program whose loaded segment is followed by `payload`, which the segment includes if `embedded`.
fn program(arch: Arch, payload: &[u8], embedded: bool) -> Vec<u8> {
    let mut bytes = TinyElf::program(arch).build();
    let size = bytes.len() + payload.len();
    bytes.extend_from_slice(payload);
    if embedded {
        assert_eq!(arch.elf().bits, 64, "the offsets below are those of 64-bit files");
        let size = match arch.elf().endian {
            Endian::Little => (size as u64).to_le_bytes(),
            Endian::Big => (size as u64).to_be_bytes(),
        };
        bytes[64 + 32..64 + 40].copy_from_slice(&size);
        bytes.extend_from_slice(b"section headers and the like");
    }
    bytes
}

fn forms() -> impl Iterator<Item = (Compression, bool, bool)> {
    let compressions = [Compression::None, Compression::Stream, Compression::PerFile];
    compressions.into_iter().flat_map(|compression| {
        [(false, false), (false, true), (true, false), (true, true)].map(|(a, b)| (compression, a, b))
    })
}

#[test]
fn every_form_reads_the_same() {
    for (arch, (compression, checksums, embedded)) in
        [Arch::Amd64, Arch::S390x].into_iter().flat_map(|arch| forms().map(move |form| (arch, form)))
    {
        let main = TinyElf::program(arch).build();
        let library = TinyElf::library(arch, "GLIBC_2.38").build();
        let form = TinyPayload { order: arch.elf().endian, compression, checksums };
        let payload =
            form.build(&[("hello", &main), ("lib/a.so.1", &library), ("a.so", b"->lib/a.so.1"), ("data", b"KAX")]);
        let read = read_bytes(&program(arch, &payload, embedded)).unwrap().unwrap();
        let context = format!("{arch:?} {compression:?} {checksums} {embedded}");
        assert_eq!((read.compression, read.checksums), (compression, checksums), "{context}");
        assert_eq!(read.placement == Placement::Embedded, embedded, "{context}");
        assert_eq!(read.stored_size, payload.len() as u64 - 8, "{context}");
        let names: Vec<&str> = read.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["hello", "lib/a.so.1", "a.so", "data"], "{context}");
        assert_eq!(read.unpacked_size, (main.len() + library.len() + 3) as u64);
        let floor = Some(GlibcVersion::new(2, 38));
        assert_eq!(read.files[1].elf().unwrap().libc, Libc::Glibc { floor }, "{context}");
        assert_eq!(read.files[2].content, Content::Link { target: "lib/a.so.1".into() });
        assert_eq!(read.files[3].content, Content::Data);
    }
}

#[test]
fn names_far_into_a_file_are_found_by_reading_twice() {
    let main = TinyElf::program(Arch::Amd64).build();
    let library = TinyElf { padding: 3 << 20, ..TinyElf::library(Arch::Amd64, "GLIBC_2.30") }.build();
    let payload = TinyPayload::NEW.build(&[("hello", &main), ("big.so", &library), ("data", b"x")]);
    let read = read_bytes(&program(Arch::Amd64, &payload, true)).unwrap().unwrap();
    assert_eq!(read.files.len(), 3);
    assert_eq!(read.files[1].elf().unwrap().glibc_floor().unwrap().to_string(), "2.30");
}

#[test]
fn a_program_without_payload_has_none() {
    assert!(read(&std::env::current_exe().unwrap()).unwrap().is_none());
    for bytes in [&b""[..], b"KAX", b"#!/bin/sh\nexec true\n"] {
        assert!(read_bytes(bytes).unwrap().is_none());
    }
    let lookalike = b"KAY\x28\xb5\x2f\xfd but then something else entirely";
    assert!(read_bytes(&program(Arch::Amd64, lookalike, true)).unwrap().is_none());
    assert!(read_bytes(&program(Arch::Amd64, b"KAXname\0\x01junk junk junk junk", true)).unwrap().is_none());
}

#[test]
fn a_cut_payload_is_damaged() {
    let main = TinyElf::program(Arch::Amd64).build();
    // Enough that compresses badly for more than one block of zstd, which decodes whole blocks only.
    let data: Vec<u8> = (0..100_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let payload = TinyPayload::NEW.build(&[("hello", &main), ("data", &data)]);
    let error = read_bytes(&program(Arch::Amd64, &payload[..payload.len() / 2], true)).unwrap_err();
    assert!(matches!(error, PayloadError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_hostile_payload_does_not_panic() {
    let main = TinyElf::program(Arch::Amd64).build();
    for compression in [Compression::None, Compression::Stream, Compression::PerFile] {
        let form = TinyPayload { compression, ..TinyPayload::NEW };
        let payload = form.build(&[("hello", &main), ("link", b"->hello"), ("data", &[7; 50])]);
        let good = program(Arch::Amd64, &payload, true);
        let start = good.len() - payload.len() - 28;
        for at in (start..good.len()).step_by(41) {
            for value in [0, 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = read_bytes(&bytes);
            }
            let _ = read_bytes(&good[..at]);
        }
    }
}
