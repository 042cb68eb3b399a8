//! Every case of every contract on every adapter that can be reached from here.

use libtest_mimic::Arguments;
use private_chat_tests::providers;

fn main() {
    libtest_mimic::run(&Arguments::from_args(), providers::all_trials()).exit();
}
