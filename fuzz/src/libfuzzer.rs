//! Running a target under libFuzzer.

use std::ffi::{CString, c_char, c_int};
use std::process::exit;
use std::sync::OnceLock;

/// The target that runs. libFuzzer runs one in a process.
static CHECK: OnceLock<fn(&[u8])> = OnceLock::new();

/// Hands the process over to libFuzzer, with the arguments that stand in `LOGWEIR_FUZZ_ARGS`, one a line.
pub(crate) fn run(name: &str, check: fn(&[u8])) {
    let arguments = std::env::var("LOGWEIR_FUZZ_ARGS")
        .unwrap_or_else(|_| panic!("{name} is built for libFuzzer: run it by ./test fuzz"));
    assert!(CHECK.set(check).is_ok(), "one target at a time: --exact fuzz_…");
    // It prints what a panic says and aborts, so that libFuzzer keeps the input.
    libfuzzer_sys::initialize(std::ptr::null(), std::ptr::null());
    // What libFuzzer runs where it needs processes of its own, with other arguments.
    let again = std::env::var("LOGWEIR_FUZZ_AGAIN").unwrap_or_else(|_| name.to_owned());
    let words = std::iter::once(&*again).chain(arguments.lines()).map(CString::new);
    exit(drive(&words.collect::<Result<Vec<CString>, _>>().expect("no argument holds NUL")));
}

#[expect(unsafe_code, reason = "libFuzzer is C++; it is declared here as its FuzzerInterface.h does")]
fn drive(arguments: &[CString]) -> c_int {
    unsafe extern "C" {
        fn LLVMFuzzerRunDriver(
            count: *mut c_int,
            arguments: *mut *mut *mut c_char,
            one: unsafe extern "C" fn(*const u8, usize) -> c_int,
        ) -> c_int;
    }
    let mut pointers: Vec<*mut c_char> = arguments.iter().map(|text| text.as_ptr().cast_mut()).collect();
    pointers.push(std::ptr::null_mut());
    let mut count = c_int::try_from(arguments.len()).expect("few arguments");
    let mut first = pointers.as_mut_ptr();
    // SAFETY: the strings live as long as the process, which ends with the call or just after it.
    unsafe { LLVMFuzzerRunDriver(&raw mut count, &raw mut first, one) }
}

#[expect(unsafe_code, reason = "called by libFuzzer")]
unsafe extern "C" fn one(data: *const u8, len: usize) -> c_int {
    // An empty input may come as a null pointer, which no slice can have.
    // SAFETY: else libFuzzer gives `len` bytes, which stay as they are until this returns.
    let input = if len == 0 { &[][..] } else { unsafe { std::slice::from_raw_parts(data, len) } };
    CHECK.get().expect("set before")(input);
    0
}

/// libfuzzer-sys' own way to call a target, which is not taken here, refers to this.
#[expect(unsafe_code, reason = "the name is libfuzzer-sys' choice")]
#[unsafe(no_mangle)]
extern "C" fn rust_fuzzer_test_input(_: *const u8, _: usize) -> c_int {
    0
}

/// How many steps were taken until now, see steps.c.
#[expect(unsafe_code, reason = "it reads a counter, and is declared as it stands in steps.c")]
pub(crate) fn steps() -> u64 {
    unsafe extern "C" {
        safe fn logweir_fuzz_steps() -> u64;
    }
    logweir_fuzz_steps()
}
