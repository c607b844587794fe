"""HTTP over the store, images and guests: writes wishes down and wakes the reconciler."""
