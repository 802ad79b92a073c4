//! Builds the counter of steps where the code is built for libFuzzer.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(fuzzing_libfuzzer)");
    println!("cargo::rerun-if-changed=src/steps.c");
    println!("cargo::rerun-if-env-changed=CARGO_CFG_FUZZING_LIBFUZZER");
    if std::env::var_os("CARGO_CFG_FUZZING_LIBFUZZER").is_some() {
        cc::Build::new().file("src/steps.c").compile("steps");
    }
}
