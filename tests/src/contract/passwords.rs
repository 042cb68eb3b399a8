//! What every password hasher promises. The hasher under test is one in which at most a hundred may wait.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use private_chat_core::error::{Backend, Failure};
use private_chat_core::model::password::{Password, PasswordHash};
use private_chat_core::port::passwords::{PasswordHasher, Verdict};

use super::Case;

/// The cases of [`PasswordHasher`].
pub const CASES: &[Case<dyn PasswordHasher>] = crate::cases![
    tells_a_password_from_another,
    salts_so_that_two_hashes_of_one_password_differ,
    reads_all_of_a_long_password,
    asks_for_a_new_hash_where_the_old_one_is_weaker,
    says_busy_when_too_many_wait,
    takes_as_long_for_no_user_as_for_a_wrong_password,
];

const HORSE: &str = "correct horse battery";
/// Hashes of [`HORSE`] by the reference implementation of Argon2, of other costs than those of new hashes.
const WEAK: [&str; 2] = [
    "$argon2id$v=19$m=8192,t=1,p=1$c2l4dGVlbiBieXRlcyBvaw$LZNn2JgFHPBhURzt/UnB0gxJ8+LevcXGGADqAzuENaU",
    "$argon2i$v=19$m=19456,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$8tHuDByIrh22SKB3MRL10XtsuZY6bhp0adzJ/sOZOgE",
];
const STRONG: [&str; 2] = [
    "$argon2id$v=19$m=19456,t=2,p=1$c2l4dGVlbiBieXRlcyBvaw$RJ1sY/uLSiHi0TP1oW8rw19AvL2Hwpt7ELvhU4n7eXg",
    "$argon2id$v=19$m=65536,t=3,p=4$c2l4dGVlbiBieXRlcyBvaw$Li4bLnwvDYG8mdDSDHopHecqVDA5AS78VRbl6RnB6Yk",
];

fn password(text: &str) -> Password {
    Password::presented(text.into()).unwrap()
}

/// Right is right; a change of case, of a space, or of the form of an accent is another password.
pub async fn tells_a_password_from_another(passwords: Arc<dyn PasswordHasher>) {
    let chosen = "Correct horse é battery";
    let hash = passwords.hash(password(chosen)).await.unwrap();
    let verdict = |text: String| passwords.verify(password(&text), Some(hash.clone()));
    assert_eq!(verdict(chosen.into()).await.unwrap(), Verdict::Right);
    for other in [
        "correct horse é battery",
        "Correct horse e\u{301} battery",
        "Correct horse é battery ",
        "Correct horse é",
        "x",
        hash.as_str(),
    ] {
        assert_eq!(verdict(other.into()).await.unwrap(), Verdict::Wrong, "{other:?}");
    }
    assert_eq!(passwords.verify(password(chosen), None).await.unwrap(), Verdict::Wrong);
}

/// Two hashes of one password have nothing in common, and both are the password's.
pub async fn salts_so_that_two_hashes_of_one_password_differ(passwords: Arc<dyn PasswordHasher>) {
    let (first, second) =
        (passwords.hash(password(HORSE)).await.unwrap(), passwords.hash(password(HORSE)).await.unwrap());
    let last_parts =
        |hash: &PasswordHash| -> Vec<String> { hash.as_str().rsplit('$').take(2).map(str::to_owned).collect() };
    let (of_first, of_second) = (last_parts(&first), last_parts(&second));
    assert!(of_first.iter().zip(&of_second).all(|(a, b)| a != b), "{of_first:?} {of_second:?}");
    for hash in [first, second] {
        assert_eq!(passwords.verify(password(HORSE), Some(hash)).await.unwrap(), Verdict::Right);
    }
}

/// What stands at the end of the longest password counts (R4).
pub async fn reads_all_of_a_long_password(passwords: Arc<dyn PasswordHasher>) {
    for length in [72, 80, 256] {
        let start = "x".repeat(length - 1);
        let hash = passwords.hash(password(&format!("{start}a"))).await.unwrap();
        let verdict = |text: String| passwords.verify(password(&text), Some(hash.clone()));
        assert_eq!(verdict(format!("{start}a")).await.unwrap(), Verdict::Right, "{length}");
        assert_eq!(verdict(format!("{start}b")).await.unwrap(), Verdict::Wrong, "{length}");
        assert_eq!(verdict(start).await.unwrap(), Verdict::Wrong, "{length}");
    }
}

/// A weaker hash is right, but weak; one that is no hash at all, or asks for absurd work, is corrupt (R3).
pub async fn asks_for_a_new_hash_where_the_old_one_is_weaker(passwords: Arc<dyn PasswordHasher>) {
    let verdict = |hash: &str, text: &str| passwords.verify(password(text), Some(PasswordHash::new(hash)));
    for weak in WEAK {
        assert_eq!(verdict(weak, HORSE).await.unwrap(), Verdict::RightButWeak, "{weak}");
        assert_eq!(verdict(weak, "another one").await.unwrap(), Verdict::Wrong, "{weak}");
    }
    for strong in STRONG {
        assert_eq!(verdict(strong, HORSE).await.unwrap(), Verdict::Right, "{strong}");
    }
    let absurd = STRONG[0].replace("t=2", "t=2000000000");
    for corrupt in ["", HORSE, absurd.as_str()] {
        let answer = verdict(corrupt, HORSE).await;
        assert!(matches!(answer, Err(Failure::Corrupt { backend: Backend::Passwords, .. })), "{corrupt}: {answer:?}");
    }
}

/// Of very many at once, some are served, some are told to come again, and none waits for long; afterwards all is as before (R100).
pub async fn says_busy_when_too_many_wait(passwords: Arc<dyn PasswordHasher>) {
    let answers = join_all((0..400).map(|_| passwords.verify(password(HORSE), None))).await;
    let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert!(!served.is_empty() && !refused.is_empty(), "{} served, {} refused", served.len(), refused.len());
    for answer in refused {
        assert!(matches!(answer, Err(Failure::Busy { backend: Backend::Passwords })), "{answer:?}");
    }
    assert_eq!(passwords.verify(password(HORSE), None).await.unwrap(), Verdict::Wrong);
}

/// The time of an answer does not tell whether there is such a user (R7).
pub async fn takes_as_long_for_no_user_as_for_a_wrong_password(passwords: Arc<dyn PasswordHasher>) {
    let hash = passwords.hash(password(HORSE)).await.unwrap();
    // The shortest of many, by turns: whatever else the machine does makes some longer, and none shorter. On a busy machine it takes more of
    // them to see both at their shortest; a real difference stays, however many there are.
    let (mut wrong, mut nobody) = (Duration::MAX, Duration::MAX);
    for round in 0..400 {
        wrong = wrong.min(time_of(&passwords, Some(hash.clone())).await);
        nobody = nobody.min(time_of(&passwords, None).await);
        let ratio = nobody.as_secs_f64() / wrong.as_secs_f64();
        if round >= 20 && (0.8..=1.25).contains(&ratio) {
            return;
        }
    }
    panic!("{nobody:?} for nobody, {wrong:?} for a wrong password");
}

#[expect(clippy::disallowed_methods, reason = "it is the real time that would tell")]
async fn time_of(passwords: &Arc<dyn PasswordHasher>, hash: Option<PasswordHash>) -> Duration {
    let start = std::time::Instant::now();
    assert_eq!(passwords.verify(password("another one"), hash).await.unwrap(), Verdict::Wrong);
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::assert_every_promise_has_a_case;

    #[test]
    fn every_promise_has_a_case() {
        assert_every_promise_has_a_case(include_str!("../../../core/src/port/passwords.rs"), CASES);
    }
}
