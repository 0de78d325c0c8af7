"""Solutions to tutorial 3; the names are the tutorial's."""


def places(size, k, stride, padding):
    return (size + 2 * padding - k) // stride + 1


def one_by_one(images, filters):
    pixels = images.transpose(0, 2, 3, 1)  # (N, H, W, C)
    return (pixels @ filters[:, :, 0, 0].T).transpose(0, 3, 1, 2)
