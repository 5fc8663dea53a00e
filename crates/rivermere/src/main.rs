//! The `rivermere` command. All of it is in `cli/`, one file for each word.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
