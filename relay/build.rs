//! Has the relay rebuilt when the player's pages, which it embeds, were built anew.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // While there is no `dist/`, this runs at every build: cargo can't watch for a directory to appear.
    println!("cargo:rerun-if-changed=../web-player/dist");
}
