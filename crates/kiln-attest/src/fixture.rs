//! What a build leaves behind, cut down.

/// A report of Nuitka 4.3.3.
pub(crate) const REPORT: &str = r#"<?xml version='1.0' encoding='utf8'?>
<nuitka-compilation-report nuitka_version="4.3.3" nuitka_commercial_version="not installed" mode="onefile" completion="yes">
  <module name="__main__" kind="PythonMainModule" usage="root_module" reason="Root module" source_path="main.py">
    <distribution-usages><distribution-usage name="lxml" /><distribution-usage name="rich" /></distribution-usages>
    <module_usages><module_usage name="argparse" finding="absolute" line="3" reason="import" /></module_usages>
  </module>
  <module name="lxml" kind="CompiledPythonPackage" usage="import" source_path="${sys.prefix}/lib/lxml/__init__.py" distribution="lxml">
    <module_usages />
  </module>
  <module name="rich.console" kind="CompiledPythonModule" usage="import" source_path="rich/console.py" distribution="rich">
    <distribution-usages><distribution-usage name="Pygments" /><distribution-usage name="rich" /></distribution-usages>
  </module>
  <module name="pygments" kind="CompiledPythonPackage" usage="import" source_path="pygments.py" distribution="Pygments" />
  <included_extension name="_ssl.so" dest_path="_ssl.so" source_path="${sys.real_prefix}/lib/python3.11/lib-dynload/_ssl.so" package="" ignored="no" reason="used extension module" tags="copy" />
  <included_extension name="etree.so" dest_path="lxml/etree.so" source_path="${sys.prefix}/lib/lxml/etree.so" package="lxml" ignored="no" reason="used extension module" tags="copy" />
  <included_dll name="libssl.so.3" dest_path="libssl.so.3" source_path="/lib/x86_64-linux-gnu/libssl.so.3" package="" ignored="no" reason="Used by '_ssl.so'" tags="copy" />
  <included_dll name="libodd.so.1" dest_path="libodd.so.1" source_path="/opt/libodd.so.1" package="" ignored="no" reason="Used by '_ssl.so'" tags="copy" />
  <included_dll name="libz.so.1" dest_path="libz.so.1" source_path="/lib/libz.so.1" package="" ignored="yes" reason="system" tags="copy" />
  <distributions>
    <distribution name="Pygments" version="2.18.0" installer="pip" />
    <distribution name="lxml" version="5.3.0" installer="pip" />
    <distribution name="rich" version="13.9.4" installer="pip" />
  </distributions>
  <python python_exe="${sys.prefix}/bin/python" python_flavor="Debian Python" python_version="3.11.2" os_name="Linux" arch_name="x86_64" />
</nuitka-compilation-report>
"#;

/// SHA-256 of the program that [`MATERIALS`] are of.
pub(crate) const SHA256: &str = "1bd8e0ee74ae1ad7a5b5e9fb0c3dd2ffa3b4c1f1d9c8d1ffaa10a4c9b9a2f0d1";

/// A list of materials of the Debian recipe.
pub(crate) const MATERIALS: &str = r#"{
 "version": 1,
 "result": {"sha256": "1bd8e0ee74ae1ad7a5b5e9fb0c3dd2ffa3b4c1f1d9c8d1ffaa10a4c9b9a2f0d1"},
 "system": {"id": "debian", "name": "Debian GNU/Linux 12 (bookworm)", "version": "12"},
 "python": {"implementation": "CPython", "packages": ["libpython3.11-minimal"], "version": "3.11.2"},
 "distributions": [
  {"name": "Nuitka", "version": "4.3.3", "license_expression": null, "license": "GNU Affero General Public License v3",
   "classifiers": ["License :: OSI Approved :: GNU Affero General Public License v3 or later (AGPLv3+)"], "commit": null},
  {"name": "Pygments", "version": "2.18.0", "license_expression": "BSD-2-Clause", "license": null, "classifiers": [], "commit": null},
  {"name": "lxml", "version": "5.3.0", "license_expression": null, "license": "BSD-3-Clause AND MIT", "classifiers": [], "commit": null},
  {"name": "rich", "version": "13.9.4", "license_expression": null, "license": null, "classifiers": [],
   "commit": "0123456789abcdef0123456789abcdef01234567"}
 ],
 "files": [
  {"name": "_ssl.so", "sha256": "00000000000000000000000000000000000000000000000000000000000000a1", "package": "libpython3.11-minimal", "distribution": null},
  {"name": "libodd.so.1", "sha256": null, "package": null, "distribution": null},
  {"name": "libssl.so.3", "sha256": "00000000000000000000000000000000000000000000000000000000000000a2", "package": "libssl3", "distribution": null},
  {"name": "lxml/etree.so", "sha256": "00000000000000000000000000000000000000000000000000000000000000a3", "package": null, "distribution": "lxml"}
 ],
 "packages": [
  {"type": "deb", "name": "binutils-x86-64-linux-gnu", "version": "2.40-2", "architecture": "amd64", "source": "binutils", "source_version": "2.40-2"},
  {"type": "deb", "name": "ccache", "version": "4.7.5-1", "architecture": "amd64", "source": "ccache", "source_version": "4.7.5-1"},
  {"type": "deb", "name": "gcc-12", "version": "12.2.0-14+deb12u1", "architecture": "amd64", "source": "gcc-12", "source_version": "12.2.0-14+deb12u1"},
  {"type": "deb", "name": "libpython3.11-minimal", "version": "3.11.2-6+deb12u6", "architecture": "amd64", "source": "python3.11", "source_version": "3.11.2-6+deb12u6"},
  {"type": "deb", "name": "libssl3", "version": "3.0.17-1~deb12u3", "architecture": "amd64", "source": "openssl", "source_version": "3.0.17-1~deb12u3"}
 ],
 "tools": [
  {"name": "cc", "said": "cc (Debian 12.2.0-14+deb12u1) 12.2.0", "package": "gcc-12"},
  {"name": "ccache", "said": "ccache version 4.7.5", "package": "ccache"},
  {"name": "zig", "said": "0.13.0", "package": null}
 ]
}"#;
