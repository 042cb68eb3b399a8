//! The program.

fn main() -> std::process::ExitCode {
    private_chat::run(std::env::args_os())
}
