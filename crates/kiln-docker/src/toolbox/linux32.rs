//! `linux32 PROGRAM ARG...`: runs a program under the 32-bit personality, so that `uname -m` says i686.
//!
//! 386 images run natively on an amd64 daemon, but the kernel tells their programs that the machine is x86_64, and
//! build scripts then pick the wrong packages and wheels. The helper is x86_64 machine code, so it needs no toolchain
//! to build and no loader to run. It looks a name without a slash up in `PATH`, as the container runtime would have
//! done, and ends with 127 if there is no such program and with 126 if it cannot be executed.

use kiln_graph::Arch;

use crate::elf;

/// The helper as an ELF file for x86_64.
pub(super) fn file() -> Vec<u8> {
    let code: Vec<u8> = [CODE, DEFAULT_PATH, MESSAGE].concat();
    elf::executable(Arch::Amd64, &code)
}

/// Searched if there is no `PATH`. Its place behind the code, and that of the message, are part of the code.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\0";

/// Written before the program's name; the last byte ends the line.
const MESSAGE: &[u8] = b"linux32: cannot execute \n";

/// One instruction a line. System calls: 135 personality, 59 execve, 1 write, 60 exit.
#[rustfmt::skip]
const CODE: &[u8] = &[
    // _start:
    0xb8, 0x87, 0x00, 0x00, 0x00, // mov eax, 135  ; personality(PER_LINUX32)
    0xbf, 0x08, 0x00, 0x00, 0x00, // mov edi, 8
    0x0f, 0x05, // syscall
    0x41, 0xbc, 0x7f, 0x00, 0x00, 0x00, // mov r12d, 127  ; exit code if nothing can be executed
    0x59, // pop rcx  ; argc
    0x48, 0x8d, 0x6c, 0x24, 0x08, // lea rbp, [rsp + 8]  ; &argv[1]
    0x4c, 0x8d, 0x6c, 0xcc, 0x08, // lea r13, [rsp + rcx*8 + 8]  ; envp
    0x4c, 0x8b, 0x75, 0x00, // mov r14, [rbp]  ; the program
    0x4d, 0x85, 0xf6, // test r14, r14
    0x0f, 0x84, 0x96, 0x00, 0x00, 0x00, // jz fail
    0x4c, 0x89, 0xf6, // mov rsi, r14
    // slash:
    0xac, // lodsb
    0x3c, 0x2f, // cmp al, '/'
    0x0f, 0x84, 0x82, 0x00, 0x00, 0x00, // je direct
    0x84, 0xc0, // test al, al
    0x75, 0xf3, // jnz slash
    0x4c, 0x29, 0xf6, // sub rsi, r14
    0x49, 0x89, 0xf7, // mov r15, rsi  ; length of the name with its NUL
    0x4c, 0x89, 0xea, // mov rdx, r13
    // env:
    0x48, 0x8b, 0x1a, // mov rbx, [rdx]
    0x48, 0x83, 0xc2, 0x08, // add rdx, 8
    0x48, 0x85, 0xdb, // test rbx, rbx
    0x74, 0x14, // jz fallback
    0x81, 0x3b, 0x50, 0x41, 0x54, 0x48, // cmp dword ptr [rbx], 0x48544150  ; "PATH"
    0x75, 0xec, // jne env
    0x80, 0x7b, 0x04, 0x3d, // cmp byte ptr [rbx + 4], '='
    0x75, 0xe6, // jne env
    0x48, 0x83, 0xc3, 0x05, // add rbx, 5
    0xeb, 0x07, // jmp search
    // fallback:
    0x48, 0x8d, 0x1d, 0xce, 0x00, 0x00, 0x00, // lea rbx, [rip + default]
    // search: rbx: the next folder of the list
    0x48, 0x81, 0xec, 0x00, 0x20, 0x00, 0x00, // sub rsp, 8192
    // next:
    0x48, 0x89, 0xe7, // mov rdi, rsp
    0x48, 0x89, 0xde, // mov rsi, rbx
    0xb9, 0xa0, 0x0f, 0x00, 0x00, // mov ecx, 4000
    // copy:
    0xac, // lodsb
    0x3c, 0x3a, // cmp al, ':'
    0x74, 0x09, // je folder
    0x84, 0xc0, // test al, al
    0x74, 0x05, // jz folder
    0xaa, // stosb
    0xe2, 0xf4, // loop copy
    0xeb, 0x36, // jmp fail
    // folder:
    0x48, 0x89, 0xf3, // mov rbx, rsi
    0x41, 0x88, 0xc0, // mov r8b, al  ; NUL: this was the last folder
    0x48, 0x39, 0xe7, // cmp rdi, rsp  ; an empty folder is the working folder
    0x74, 0x03, // je name
    0xb0, 0x2f, // mov al, '/'
    0xaa, // stosb
    // name:
    0x49, 0x81, 0xff, 0xa0, 0x0f, 0x00, 0x00, // cmp r15, 4000
    0x77, 0x1f, // ja fail
    0x4c, 0x89, 0xf9, // mov rcx, r15
    0x4c, 0x89, 0xf6, // mov rsi, r14
    0xf3, 0xa4, // rep movsb
    0x48, 0x89, 0xe7, // mov rdi, rsp
    0xe8, 0x69, 0x00, 0x00, 0x00, // call exec
    0x45, 0x84, 0xc0, // test r8b, r8b
    0x75, 0xbb, // jnz next
    0xeb, 0x08, // jmp fail
    // direct:
    0x4c, 0x89, 0xf7, // mov rdi, r14
    0xe8, 0x5a, 0x00, 0x00, 0x00, // call exec
    // fail:
    0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1
    0xbf, 0x02, 0x00, 0x00, 0x00, // mov edi, 2
    0x48, 0x8d, 0x35, 0xa4, 0x00, 0x00, 0x00, // lea rsi, [rip + message]
    0xba, 0x18, 0x00, 0x00, 0x00, // mov edx, offset message_end - message
    0x0f, 0x05, // syscall
    0x4c, 0x89, 0xf6, // mov rsi, r14
    0x48, 0x85, 0xf6, // test rsi, rsi
    0x74, 0x18, // jz quit
    0x31, 0xd2, // xor edx, edx
    // count:
    0x80, 0x3c, 0x16, 0x00, // cmp byte ptr [rsi + rdx], 0
    0x74, 0x04, // je say
    0xff, 0xc2, // inc edx
    0xeb, 0xf6, // jmp count
    // say:
    0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1
    0xbf, 0x02, 0x00, 0x00, 0x00, // mov edi, 2
    0x0f, 0x05, // syscall
    // quit:
    0xb8, 0x01, 0x00, 0x00, 0x00, // mov eax, 1
    0xbf, 0x02, 0x00, 0x00, 0x00, // mov edi, 2
    0x48, 0x8d, 0x35, 0x84, 0x00, 0x00, 0x00, // lea rsi, [rip + newline]
    0xba, 0x01, 0x00, 0x00, 0x00, // mov edx, 1
    0x0f, 0x05, // syscall
    0x44, 0x89, 0xe7, // mov edi, r12d
    0xb8, 0x3c, 0x00, 0x00, 0x00, // mov eax, 60  ; exit
    0x0f, 0x05, // syscall
    // exec: execve(rdi, argv, envp); returns only if that failed
    0x48, 0x89, 0xee, // mov rsi, rbp
    0x4c, 0x89, 0xea, // mov rdx, r13
    0xb8, 0x3b, 0x00, 0x00, 0x00, // mov eax, 59
    0x0f, 0x05, // syscall
    0x83, 0xf8, 0xfe, // cmp eax, -2  ; ENOENT, ENOTDIR: look further; anything else was found but is no program
    0x74, 0x0b, // je missing
    0x83, 0xf8, 0xec, // cmp eax, -20
    0x74, 0x06, // je missing
    0x41, 0xbc, 0x7e, 0x00, 0x00, 0x00, // mov r12d, 126
    // missing:
    0xc3, // ret
];

#[cfg(all(test, target_os = "linux", target_arch = "x86_64"))]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::process::{Command, Output};

    fn helper(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("kiln-linux32-{name}-{}", std::process::id()));
        std::fs::write(&path, super::file()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn run(command: &mut Command) -> (Option<i32>, String, String) {
        // Another test's fork may hold the file open for writing for a moment.
        let Output { status, stdout, stderr } = loop {
            match command.output() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                result => break result.unwrap(),
            }
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (status.code(), text(stdout), text(stderr))
    }

    #[test]
    fn the_machine_is_an_i686() {
        let helper = helper("machine");
        for path in ["/nonexistent:/usr/bin:/bin", "/bin:/usr/bin"] {
            let (code, out, _) = run(Command::new(&helper).env("PATH", path).args(["uname", "-m"]));
            assert_eq!((code, out.as_str()), (Some(0), "i686\n"));
        }
        let (code, out, _) = run(Command::new(&helper).env_clear().args(["uname", "-m"]));
        assert_eq!((code, out.as_str()), (Some(0), "i686\n"), "without PATH");
        let (code, out, _) =
            run(Command::new(&helper).env_clear().args(["/bin/sh", "-c", "echo \"$0,$2\"; exit 3", "a", "b", "c d"]));
        assert_eq!((code, out.as_str()), (Some(3), "a,c d\n"));
        std::fs::remove_file(helper).unwrap();
    }

    #[test]
    fn failures_have_the_shells_exit_codes() {
        let helper = helper("failures");
        let (code, _, err) = run(Command::new(&helper).env("PATH", "/bin::").arg("no-such-program"));
        assert_eq!((code, err.as_str()), (Some(127), "linux32: cannot execute no-such-program\n"));
        let (code, _, err) = run(Command::new(&helper).arg("/etc/passwd"));
        assert_eq!((code, err.as_str()), (Some(126), "linux32: cannot execute /etc/passwd\n"));
        let (code, ..) = run(Command::new(&helper).env("PATH", "a".repeat(10_000)).arg("uname"));
        assert_eq!(code, Some(127));
        let (code, ..) = run(Command::new(&helper).arg("a".repeat(10_000)));
        assert_eq!(code, Some(127));
        assert_eq!(run(&mut Command::new(&helper)).0, Some(127));
        std::fs::remove_file(helper).unwrap();
    }
}
