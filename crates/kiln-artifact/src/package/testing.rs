//! Makes archives, packages and images for tests.

use std::io::Write;

/// A regular file of an archive: path, content, mode.
pub(crate) type Entry<'a> = (&'a str, &'a [u8], u32);

/// A tar archive; with an end, or cut before it as the first parts of an Alpine package are.
pub(crate) fn tar(entries: &[Entry<'_>], has_end: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content, mode) in entries {
        let mut header = ::tar::Header::new_gnu();
        // Written past the library, which refuses what a hostile archive has.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    if has_end {
        bytes.extend_from_slice(&[0; 1024]);
    }
    bytes
}

/// A tar archive of one entry that is no file.
pub(crate) fn special(kind: ::tar::EntryType, name: &str, link: &str) -> Vec<u8> {
    let mut header = ::tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o777);
    header.set_cksum();
    header.as_bytes().to_vec()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// A package of Debian.
pub(crate) fn deb(control: &str, entries: &[Entry<'_>]) -> Vec<u8> {
    let control = gzip(&tar(&[("./control", control.as_bytes(), 0o644)], true));
    let data = zstd::encode_all(tar(entries, true).as_slice(), 1).unwrap();
    let mut out = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar.gz", &control), ("data.tar.zst", &data)] {
        writeln!(out, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, content.len()).unwrap();
        out.extend_from_slice(content);
        if content.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

/// A package of Alpine.
pub(crate) fn apk(info: &str, entries: &[Entry<'_>]) -> Vec<u8> {
    let signature = gzip(&tar(&[(".SIGN.RSA.x.pub", b"sig", 0o644)], false));
    let control = gzip(&tar(&[(".PKGINFO", info.as_bytes(), 0o644)], false));
    [signature, control, gzip(&tar(entries, true))].concat()
}

/// A package of RPM, with name, version, architecture and one requirement.
pub(crate) fn rpm(arch: &str, requires: &str, entries: &[Entry<'_>]) -> Vec<u8> {
    let header = |texts: &[(u32, &str)]| {
        let (mut index, mut store) = (Vec::new(), Vec::new());
        for (tag, text) in texts {
            for number in [*tag, 6, u32::try_from(store.len()).unwrap(), 1] {
                index.extend_from_slice(&number.to_be_bytes());
            }
            store.extend_from_slice(text.as_bytes());
            store.push(0);
        }
        let mut out = vec![0x8e, 0xad, 0xe8, 1, 0, 0, 0, 0];
        for number in [texts.len(), store.len()] {
            out.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes());
        }
        [out, index, store].concat()
    };
    let mut lead = vec![0xed, 0xab, 0xee, 0xdb, 3, 0];
    lead.resize(96, 0);
    let mut signatures = header(&[(267, "odd")]);
    signatures.resize(signatures.len().next_multiple_of(8), 0);
    let main = header(&[(1000, "hello"), (1001, "1.0"), (1002, "1"), (1022, arch), (1049, requires)]);
    [lead, signatures, main, gzip(&cpio(entries))].concat()
}

fn cpio(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |name: &str, content: &[u8], mode: u32| {
        let [size, name_size] = [content.len(), name.len() + 1].map(|size| u32::try_from(size).unwrap());
        let fields = [0, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0].map(|n| format!("{n:08x}"));
        write!(out, "070701{}{name}\0", fields.concat()).unwrap();
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    for (name, content, mode) in entries {
        put(name, content, 0o100_000 | mode);
    }
    put("TRAILER!!!", b"", 0);
    out
}

/// A zip archive.
pub(crate) fn zip(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut writer = ::zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content, mode) in entries {
        let options = ::zip::write::SimpleFileOptions::default().unix_permissions(*mode);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// What `docker save` wrote before it wrote layouts: an image of one layer that starts `/usr/bin/hello`.
pub(crate) fn docker(arch: &str, entries: &[Entry<'_>]) -> Vec<u8> {
    let config =
        format!(r#"{{"os":"linux","architecture":"{arch}","config":{{"Cmd":["hello"],"Env":["PATH=/usr/bin"]}}}}"#);
    let manifest = r#"[{"Config":"config.json","RepoTags":["hello:1"],"Layers":["one/layer.tar"]}]"#;
    let layer = tar(entries, true);
    tar(
        &[
            ("one/layer.tar", &layer, 0o644),
            ("config.json", config.as_bytes(), 0o644),
            ("manifest.json", manifest.as_bytes(), 0o644),
        ],
        true,
    )
}

/// A layout with an image of one platform; `broken` changes a byte of its layer.
pub(crate) fn layout(arch: &str, entries: &[Entry<'_>], broken: bool) -> Vec<u8> {
    let sum = |bytes: &[u8]| crate::checksum::Sha256::of(bytes).to_string();
    let mut layer = gzip(&tar(entries, true));
    let config = format!(r#"{{"os":"linux","architecture":"{arch}","config":{{"Entrypoint":["/usr/bin/hello"]}}}}"#);
    let (layer_sum, config_sum) = (sum(&layer), sum(config.as_bytes()));
    let manifest =
        format!(r#"{{"config":{{"digest":"sha256:{config_sum}"}},"layers":[{{"digest":"sha256:{layer_sum}"}}]}}"#);
    let manifest_sum = sum(manifest.as_bytes());
    let index = format!(
        r#"{{"manifests":[{{"digest":"sha256:{manifest_sum}"}},{{"platform":{{"os":"unknown"}},"digest":"sha256:0"}}]}}"#
    );
    if broken {
        let at = layer.len() / 2;
        layer[at] ^= 1;
    }
    let blob = |sum: &str| format!("blobs/sha256/{sum}");
    tar(
        &[
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644),
            ("index.json", index.as_bytes(), 0o644),
            (&blob(&manifest_sum), manifest.as_bytes(), 0o644),
            (&blob(&config_sum), config.as_bytes(), 0o644),
            (&blob(&layer_sum), &layer, 0o644),
        ],
        true,
    )
}
