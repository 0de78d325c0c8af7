// The CUDA kernels of the CuPy backend. real is float or double (-DREAL=...). Each does in one
// launch what the definition of the same op (rsam_ref/ops_nn.py, noise.py, optim.py) says in
// several; a property test holds it to that definition. Arrays are contiguous, images (N, C, H,
// W). No atomics, so a result is the same in every run.

typedef long long index_t;
typedef REAL real;

// Thread i of a one-dimensional launch does element i.
#define ELEMENT(i, n)                                                \
  index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x;        \
  if (i >= (n)) return;

// Windows of images as rows of a matrix: rows[g][n, ho, wo][c, i, j], zero where a window reaches
// into the padding. One thread for each element of the matrix; c counts the channels of one group.
extern "C" __global__ void im2col(
    const real* x, real* rows, index_t size, int images, int channels, int height, int width, int
    out_height, int out_width, int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h,
    int pad_w, int groups) {
  ELEMENT(at, size)
  index_t rest = at;
  int j = rest % kernel_w;            rest /= kernel_w;
  int i = rest % kernel_h;            rest /= kernel_h;
  int c = rest % (channels / groups); rest /= channels / groups;
  int wo = rest % out_width;          rest /= out_width;
  int ho = rest % out_height;         rest /= out_height;
  int n = rest % images;
  int g = rest / images;
  int h = ho * stride_h + i - pad_h;
  int w = wo * stride_w + j - pad_w;
  bool inside = h >= 0 && h < height && w >= 0 && w < width;
  index_t channel = (index_t)n * channels + g * (channels / groups) + c;
  rows[at] = inside ? x[(channel * height + h) * width + w] : real(0);
}

// The way back: every pixel gathers what all windows over it have. One thread for each pixel.
extern "C" __global__ void col2im(
    const real* rows, real* x, index_t size, int images, int channels, int height, int width, int
    out_height, int out_width, int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h,
    int pad_w, int groups) {
  ELEMENT(at, size)
  index_t rest = at;
  int w = rest % width;     rest /= width;
  int h = rest % height;    rest /= height;
  int channel = rest % channels;
  int n = rest / channels;
  int per_group = channels / groups;
  int g = channel / per_group, c = channel % per_group;
  real sum = 0;
  for (int i = 0; i < kernel_h; ++i) {
    int top = h + pad_h - i;
    if (top < 0 || top % stride_h || top / stride_h >= out_height) continue;
    for (int j = 0; j < kernel_w; ++j) {
      int left = w + pad_w - j;
      if (left < 0 || left % stride_w || left / stride_w >= out_width) continue;
      index_t row = (((index_t)g * images + n) * out_height + top / stride_h) * out_width +
                    left / stride_w;
      sum += rows[((row * per_group + c) * kernel_h + i) * kernel_w + j];
    }
  }
  x[at] = sum;
}

// The largest value of every window, and which place of the window it had (the first of equal
// ones).
extern "C" __global__ void max_pool(
    const real* x, real* out, int* place, index_t size, int height, int width, int out_height, int
    out_width, int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w) {
  ELEMENT(at, size)
  int wo = at % out_width;
  int ho = at / out_width % out_height;
  index_t plane = at / out_width / out_height;
  real best = 0;
  int found = -1;
  for (int i = 0; i < kernel_h; ++i) {
    for (int j = 0; j < kernel_w; ++j) {
      int h = ho * stride_h + i - pad_h, w = wo * stride_w + j - pad_w;
      if (h < 0 || h >= height || w < 0 || w >= width) continue;
      real value = x[(plane * height + h) * width + w];
      if (found < 0 || value > best || (value != value && best == best)) {  // as in argmax
        best = value;
        found = i * kernel_w + j;
      }
    }
  }
  out[at] = best;
  place[at] = found;
}

extern "C" __global__ void max_pool_back(
    const real* g, const int* place, real* x, index_t size, int height, int width, int out_height,
    int out_width, int kernel_h, int kernel_w, int stride_h, int stride_w, int pad_h, int pad_w) {
  ELEMENT(at, size)
  int w = at % width;
  int h = at / width % height;
  index_t plane = at / width / height;
  real sum = 0;
  for (int i = 0; i < kernel_h; ++i) {
    int top = h + pad_h - i;
    if (top < 0 || top % stride_h || top / stride_h >= out_height) continue;
    for (int j = 0; j < kernel_w; ++j) {
      int left = w + pad_w - j;
      if (left < 0 || left % stride_w || left / stride_w >= out_width) continue;
      index_t window = (plane * out_height + top / stride_h) * out_width + left / stride_w;
      if (place[window] == i * kernel_w + j) sum += g[window];
    }
  }
  x[at] = sum;
}

// Batch norm's value at every element; `places` is height * width.
extern "C" __global__ void batch_norm(
    const real* x, const real* gamma, const real* beta, const real* mean, const real* inverse_std,
    real* out, index_t size, int channels, int places) {
  ELEMENT(at, size)
  int c = at / places % channels;
  out[at] = (x[at] - mean[c]) * inverse_std[c] * gamma[c] + beta[c];
}

// x_hat at every element times the gradient, to be summed for gamma.
extern "C" __global__ void batch_norm_products(
    const real* g, const real* x, const real* mean, const real* inverse_std, real* out, index_t
    size, int channels, int places) {
  ELEMENT(at, size)
  int c = at / places % channels;
  out[at] = g[at] * (x[at] - mean[c]) * inverse_std[c];
}

// The gradient at x: the parts of g along 1 and along x_hat go. `count` is the elements of a
// channel; 0 means that the statistics are constants.
extern "C" __global__ void batch_norm_back(
    const real* g, const real* x, const real* gamma, const real* mean, const real* inverse_std,
    const real* sum_g, const real* sum_g_x_hat, real* out, index_t size, int channels, int places,
    int count) {
  ELEMENT(at, size)
  int c = at / places % channels;
  real value = g[at];
  if (count) {
    real x_hat = (x[at] - mean[c]) * inverse_std[c];
    value -= (sum_g[c] + x_hat * sum_g_x_hat[c]) / count;
  }
  out[at] = value * gamma[c] * inverse_std[c];
}

// Cross-entropy of one row of logits (classes) against a label, smoothed; and p - target. One
// thread a row: rows are many and classes few.
extern "C" __global__ void cross_entropy_labels(
    const real* logits, const index_t* labels, real* losses, real* difference, index_t rows, int
    classes, real smoothing) {
  ELEMENT(row, rows)
  const real* x = logits + row * classes;
  real* d = difference + row * classes;
  real largest = x[0];
  for (int k = 1; k < classes; ++k) largest = x[k] > largest ? x[k] : largest;
  real total = 0, sum = 0;
  for (int k = 0; k < classes; ++k) {
    d[k] = exp(x[k] - largest);
    total += d[k];
    sum += x[k] - largest;
  }
  index_t label = labels[row];
  bool right = label >= 0 && label < classes;  // a label that is no class makes its loss nan
  real shifted = right ? x[label] - largest : real(nan(""));
  real uniform = smoothing / classes;
  losses[row] = log(total) - (1 - smoothing) * shifted;
  if (uniform != 0) losses[row] -= uniform * sum;  // sum is infinite where a class is masked out
  for (int k = 0; k < classes; ++k)
    d[k] = right ? d[k] / total - uniform - (k == label ? 1 - smoothing : real(0)) : real(nan(""));
}

// The norm of every filter: filter f is the run starts[f] .. starts[f + 1] of w. One block a
// filter.
extern "C" __global__ void filter_norms(
    const real* w, const index_t* starts, const real* tiny, real* norms) {
  __shared__ real partial[128];
  int f = blockIdx.x;
  real sum = 0;
  for (index_t i = starts[f] + threadIdx.x; i < starts[f + 1]; i += blockDim.x) sum += w[i] * w[i];
  partial[threadIdx.x] = sum;
  __syncthreads();
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) norms[f] = sqrt(partial[0]) + tiny[f];
}

// Every weight's own filter's norm. One block a filter.
extern "C" __global__ void filter_spread(
    const real* norms, const index_t* starts, real* scale) {
  int f = blockIdx.x;
  for (index_t i = starts[f] + threadIdx.x; i < starts[f + 1]; i += blockDim.x) scale[i] = norms[f];
}

// One step of SGD on the flat vector, in place; `first` starts the velocity.
extern "C" __global__ void sgd_update(
    real* w, const real* gradient, real* velocity, index_t size, real lr, real momentum, real
    dampening, real weight_decay, int nesterov, int first) {
  ELEMENT(i, size)
  real g = gradient[i] + weight_decay * w[i];
  if (momentum != 0) {
    real v = first ? g : momentum * velocity[i] + (1 - dampening) * g;
    velocity[i] = v;
    g = nesterov ? g + momentum * v : v;
  }
  w[i] -= lr * g;
}
