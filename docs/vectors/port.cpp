// SAM, R-SAM and their relatives in C++17, held against the vectors of `rsam-ref vectors DIR`.
//
//     g++ -std=c++17 -O2 -ffp-contract=off port.cpp -o port && ./port DIR
//
// A line for every fault; exit code 1 if there is one. The part that ports the algorithms begins at
// "The problem"; what stands before it reads the files. Without -ffp-contract=off a compiler may
// fuse a product and a sum, which is within the tolerance, but no longer the same bits.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

using std::string;

// ---------------------------------------------------------------------------- reading the files

string read_file(const string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error(path + ": cannot be read");
    return string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

struct Json {  // one value; of its members those are used that its kind has
    double number = 0;  // true is 1, false and null are 0
    string text;
    std::vector<Json> items;
    std::map<string, Json> members;

    bool has(const string& name) const { return members.count(name) > 0; }
    const Json& operator[](const string& name) const {
        if (!has(name)) throw std::runtime_error("no \"" + name + "\" in the JSON");
        return members.at(name);
    }
};

struct JsonReader {
    const string& text;
    size_t at = 0;

    [[noreturn]] void fail() { throw std::runtime_error("no JSON at byte " + std::to_string(at)); }
    char next() {
        while (at < text.size() && std::strchr(" \t\r\n", text[at])) ++at;
        if (at == text.size()) fail();
        return text[at];
    }
    void expect(char c) {
        if (next() != c) fail();
        ++at;
    }
    string word() {  // in quotes; the vectors' words need no escapes
        expect('"');
        size_t end = text.find('"', at);
        if (end == string::npos) fail();
        string found = text.substr(at, end - at);
        at = end + 1;
        return found;
    }
    bool take(const char* literal) {
        if (text.compare(at, std::strlen(literal), literal) != 0) return false;
        at += std::strlen(literal);
        return true;
    }
    bool more(char close) {  // after an item: a comma, or the end
        if (next() == ',') return ++at, true;
        return expect(close), false;
    }
    Json value() {
        Json json;
        char c = next();
        if (c == '{') {
            ++at;
            if (next() == '}') return ++at, json;
            do {
                string name = word();
                expect(':');
                json.members[name] = value();
            } while (more('}'));
        } else if (c == '[') {
            ++at;
            if (next() == ']') return ++at, json;
            do json.items.push_back(value());
            while (more(']'));
        } else if (c == '"') {
            json.text = word();
        } else if (take("true")) {
            json.number = 1;
        } else if (!take("false") && !take("null")) {
            char* end;
            json.number = std::strtod(text.c_str() + at, &end);
            if (end == text.c_str() + at) fail();
            at = end - text.c_str();
        }
        return json;
    }
};

Json parse(const string& text) { return JsonReader{text}.value(); }

string sha256(const string& message) {  // FIPS 180-4
    auto fraction = [](double root) { return uint32_t((root - std::floor(root)) * 4294967296.0); };
    uint32_t k[64], h[8];
    for (int n = 2, found = 0; found < 64; ++n) {  // the first 64 primes
        bool prime = true;
        for (int d = 2; d * d <= n; ++d) prime = prime && n % d;
        if (!prime) continue;
        if (found < 8) h[found] = fraction(std::sqrt(double(n)));
        k[found++] = fraction(std::cbrt(double(n)));
    }
    string padded = message + char(0x80);
    while (padded.size() % 64 != 56) padded += char(0);
    for (int i = 7; i >= 0; --i) padded += char(uint64_t(message.size()) * 8 >> 8 * i);
    auto turn = [](uint32_t x, int n) { return x >> n | x << (32 - n); };
    for (size_t block = 0; block < padded.size(); block += 64) {
        uint32_t w[64], s[8];
        for (int i = 0; i < 16; ++i) {
            w[i] = 0;
            for (int j = 0; j < 4; ++j) w[i] = w[i] << 8 | uint8_t(padded[block + 4 * i + j]);
        }
        for (int i = 16; i < 64; ++i) {
            uint32_t a = w[i - 15], b = w[i - 2];
            w[i] = w[i - 16] + w[i - 7] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) +
                   (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
        }
        std::copy(h, h + 8, s);
        for (int i = 0; i < 64; ++i) {
            uint32_t a = s[0], e = s[4];
            uint32_t first = s[7] + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) +
                             ((e & s[5]) ^ (~e & s[6])) + k[i] + w[i];
            uint32_t second = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) +
                              ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
            for (int j = 7; j > 0; --j) s[j] = s[j - 1];
            s[4] += first;
            s[0] = first + second;
        }
        for (int i = 0; i < 8; ++i) h[i] += s[i];
    }
    string hex;
    for (uint32_t word : h) {
        char part[9];
        std::snprintf(part, sizeof part, "%08x", word);
        hex += part;
    }
    return hex;
}

// A file of tensors: 8 bytes with the header's length, the header as JSON, the numbers. This
// machine is taken to be little-endian, as the file is.
struct Tensors {
    string bytes;
    Json header;
    size_t begin = 0;

    explicit Tensors(const string& path) : bytes(read_file(path)) {
        uint64_t length = 0;
        if (bytes.size() < 8) throw std::runtime_error(path + ": too short");
        std::memcpy(&length, bytes.data(), 8);
        if (length > bytes.size() - 8) throw std::runtime_error(path + ": too short");
        begin = 8 + length;
        header = parse(bytes.substr(8, length));
    }
    string numbers(const string& name) const {  // a tensor's bytes
        const std::vector<Json>& range = header[name]["data_offsets"].items;
        if (range.size() != 2) throw std::runtime_error(name + ": has no place in the file");
        double from = range[0].number, to = range[1].number;
        if (!(0 <= from && from <= to && begin + to <= bytes.size()))
            throw std::runtime_error(name + ": outside of the file");
        return bytes.substr(begin + size_t(from), size_t(to - from));
    }
    template <class T>
    std::vector<T> get(const string& name) const {
        string raw = numbers(name);
        if (header[name]["dtype"].text != (sizeof(T) == 8 ? "F64" : "F32"))
            throw std::runtime_error(name + ": of another type");
        std::vector<T> found(raw.size() / sizeof(T));
        std::memcpy(found.data(), raw.data(), found.size() * sizeof(T));
        return found;
    }
};

// ------------------------------------------------------------------------------- vector algebra

template <class T>
using Vector = std::vector<T>;

template <class T>
void need_alike(const Vector<T>& a, const Vector<T>& b) {  // else a read beyond the shorter one
    if (a.size() != b.size())
        throw std::runtime_error("vectors of " + std::to_string(a.size()) + " and " +
                                 std::to_string(b.size()) + " numbers: a setting is not there");
}
template <class T>
Vector<T> operator+(Vector<T> a, const Vector<T>& b) {
    need_alike(a, b);
    for (size_t i = 0; i < a.size(); ++i) a[i] += b[i];
    return a;
}
template <class T>
Vector<T> operator-(Vector<T> a, const Vector<T>& b) {
    need_alike(a, b);
    for (size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
    return a;
}
template <class T>
Vector<T> operator*(Vector<T> a, const Vector<T>& b) {
    need_alike(a, b);
    for (size_t i = 0; i < a.size(); ++i) a[i] *= b[i];
    return a;
}
template <class T>
Vector<T> operator*(std::common_type_t<T> factor, Vector<T> a) {
    for (T& each : a) each *= factor;
    return a;
}
template <class T>
T dot(const T* a, int a_step, const T* b, int b_step, int n) {  // in index order
    T sum = 0;
    for (int i = 0; i < n; ++i) sum += a[i * a_step] * b[i * b_step];
    return sum;
}
template <class T>
T norm(const Vector<T>& v) {
    return std::sqrt(dot(v.data(), 1, v.data(), 1, int(v.size())));
}

// ----------------------------------------------------------------------------------- The problem

const int STEPS = 5, N = 4, INPUTS = 3, HIDDEN = 4, OUTPUTS = 2, P = 26;
const int B1 = 12, W2 = 16, B2 = 24;  // where the parameters begin in w; W1 begins it

template <class T>
struct Batch {
    const T *x, *target;  // (4, 3), (4, 2)

    T loss_and_grad(const Vector<T>& w, Vector<T>& grad) const {
        T slope[N][HIDDEN], h[N][HIDDEN], e[N][OUTPUTS], dy[N][OUTPUTS], du[N][HIDDEN], loss = 0;
        for (int n = 0; n < N; ++n) {
            for (int j = 0; j < HIDDEN; ++j) {
                T u = dot(&x[n * INPUTS], 1, &w[j * INPUTS], 1, INPUTS) + w[B1 + j];
                slope[n][j] = (1 + std::abs(u)) * (1 + std::abs(u));
                h[n][j] = u / (1 + std::abs(u));
            }
            for (int k = 0; k < OUTPUTS; ++k) {
                T y = dot(h[n], 1, &w[W2 + k * HIDDEN], 1, HIDDEN) + w[B2 + k];
                e[n][k] = y - target[n * OUTPUTS + k];
                dy[n][k] = e[n][k] / N;
                loss += e[n][k] * e[n][k];
            }
            for (int j = 0; j < HIDDEN; ++j)
                du[n][j] = dot(dy[n], 1, &w[W2 + j], HIDDEN, OUTPUTS) / slope[n][j];
        }
        const T ones[N] = {1, 1, 1, 1};
        grad.assign(P, 0);
        for (int j = 0; j < HIDDEN; ++j) {
            for (int i = 0; i < INPUTS; ++i)
                grad[j * INPUTS + i] = dot(&du[0][j], HIDDEN, &x[i], INPUTS, N);
            grad[B1 + j] = dot(&du[0][j], HIDDEN, ones, 1, N);
        }
        for (int k = 0; k < OUTPUTS; ++k) {
            for (int j = 0; j < HIDDEN; ++j)
                grad[W2 + k * HIDDEN + j] = dot(&dy[0][k], OUTPUTS, &h[0][j], HIDDEN, N);
            grad[B2 + k] = dot(&dy[0][k], OUTPUTS, ones, 1, N);
        }
        return loss / (2 * N);
    }
};

// -------------------------------------------------------------------------------- The algorithms

template <class T>
using Quantities = std::map<string, Vector<T>>;  // a loss is a vector of one number

template <class T>
Vector<T> filter_scale(const Vector<T>& w) {  // s: the norm of the filter that a weight is in
    struct { int rows, width, axes; } parameters[] = {{4, 3, 2}, {1, 4, 1}, {2, 4, 2}, {1, 2, 1}};
    Vector<T> scale;
    for (auto p : parameters)
        for (int row = 0; row < p.rows; ++row) {
            const T* filter = &w[scale.size()];
            T length = std::sqrt(dot(filter, 1, filter, 1, p.width));
            scale.insert(scale.end(), p.width, p.axes == 1 ? length + T(1e-16) : length);
        }
    return scale;
}

template <class T>
Vector<T> to_length(T rho, const Vector<T>& direction) {
    return (rho / (norm(direction) + T(1e-12))) * direction;
}

template <class T>
Quantities<T> find(const string& algorithm, const Json& settings, const Batch<T>& batch,
                   const Vector<T>& w, const Vector<T>& z) {
    auto setting = [&](const char* name) { return T(settings[name].number); };
    Quantities<T> q;
    Vector<T> g0, noise, eps;
    if (settings.has("sigma")) {
        T sigma = setting("sigma");
        noise = algorithm == "rsam-ball" ? (sigma / norm(z)) * z : sigma * filter_scale(w) * z;
        q["noise"] = noise;
    }
    q["loss"] = {batch.loss_and_grad(noise.empty() ? w : w + noise, g0)};
    if (!settings.has("rho")) {  // base, noise-only
        q["gradient"] = g0;
        return q;
    }
    q["ascent_gradient"] = g0;
    T rho = setting("rho");
    if (algorithm == "sam" || algorithm == "rsam-gradient") {
        eps = to_length(rho, g0);
    } else if (algorithm == "k-step-sam") {
        int k = int(settings["ascent_steps"].number);
        eps = to_length(rho / k, g0);
        for (int i = 1; i < k; ++i) {  // k = 2: once
            Vector<T> g;
            q["first_perturbation"] = eps;
            batch.loss_and_grad(w + eps, g);
            q["second_ascent_gradient"] = g;
            eps = eps + to_length(rho / k, g);
        }
    } else if (algorithm == "asam") {
        Vector<T> scale = w;
        for (T& each : scale) each = std::abs(each) + setting("eta");
        Vector<T> scaled = scale * g0;
        eps = (rho / (norm(scaled) + T(1e-12))) * (scale * scaled);
    } else if (algorithm == "rsam" || algorithm == "rsam-ball") {
        eps = to_length(rho, setting("lam") * g0 + noise);
    } else if (algorithm == "rsam-stacked") {
        eps = noise + to_length(rho, g0);
    } else {
        throw std::runtime_error("unknown algorithm " + algorithm);
    }
    q["perturbation"] = eps;
    q["adversarial_loss"] = {batch.loss_and_grad(w + eps, q["gradient"])};
    return q;
}

template <class T>
struct Base {  // a base optimizer, from a state of 0
    const Json& settings;
    int steps = 0;
    Vector<T> velocity = Vector<T>(P), mean = Vector<T>(P), square = Vector<T>(P);

    void move(Vector<T>& w, Vector<T> g, Quantities<T>& q) {
        auto number = [&](const char* name) { return settings[name].number; };
        ++steps;
        if (settings["optimizer"].text == "SGD") {
            g = g + T(number("weight_decay")) * w;
            velocity = T(number("momentum")) * velocity + g;
            w = w - T(number("lr")) *
                        (number("nesterov") ? g + T(number("momentum")) * velocity : velocity);
            q["velocity"] = velocity;
        } else {
            double lr = number("lr"), beta1 = number("beta1"), beta2 = number("beta2");
            T shrink = T(1 - lr * number("weight_decay"));
            T step = T(lr / (1 - std::pow(beta1, steps)));
            T root = T(std::sqrt(1 - std::pow(beta2, steps)));
            for (int i = 0; i < P; ++i) {
                mean[i] += T(1 - beta1) * (g[i] - mean[i]);
                square[i] = T(beta2) * square[i] + T(1 - beta2) * g[i] * g[i];
                w[i] = shrink * w[i] -
                       step * mean[i] / (std::sqrt(square[i]) / root + T(number("eps")));
            }
            q["mean"] = mean;
            q["square"] = square;
        }
        q["w"] = w;
    }
};

// ------------------------------------------------------------------------------------- The check

int faults = 0;

void fault(const string& what) {
    std::printf("%s\n", what.c_str());
    ++faults;
}

template <class T>
Vector<T> row(const Vector<T>& rows, int t) {
    size_t width = rows.size() / STEPS;
    return Vector<T>(rows.begin() + t * width, rows.begin() + (t + 1) * width);
}

template <class T>
double largest(const Vector<T>& v) {  // NaN, if there is one
    double found = 0;
    for (T each : v) {
        if (std::isnan(each)) return each;
        found = std::max(found, std::abs(double(each)));
    }
    return found;
}

template <class T>
void check_case(const string& type, const string& algorithm, const string& base, const Json& told,
                const Tensors& tensors, double& furthest) {
    string name = algorithm + "/" + base + "/";
    auto x = tensors.get<T>("x"), target = tensors.get<T>("target"), z = tensors.get<T>("z");
    auto w = tensors.get<T>("w0");
    Base<T> optimizer{told["bases"][base]};
    for (int t = 0; t < STEPS; ++t) {
        Batch<T> batch{&x[t * N * INPUTS], &target[t * N * OUTPUTS]};
        Quantities<T> q = find(algorithm, told["algorithms"][algorithm], batch, w, row(z, t));
        optimizer.move(w, q["gradient"], q);
        for (const char* quantity :
             {"noise", "loss", "ascent_gradient", "first_perturbation", "second_ascent_gradient",
              "perturbation", "adversarial_loss", "gradient", "velocity", "mean", "square", "w"}) {
            if (!q.count(quantity)) continue;
            Vector<T> theirs = row(tensors.get<T>(name + quantity), t);
            if (theirs.size() != q[quantity].size())
                throw std::runtime_error(name + quantity + ": of another size");
            double off = largest(q[quantity] - theirs) / largest(theirs);
            if (!(off <= told["types"][type]["tolerance"].number)) {
                char figure[32];
                std::snprintf(figure, sizeof figure, "%.1e", off);
                return fault(type + " " + name + quantity + ", step " + std::to_string(t + 1) +
                             ": off by " + figure + " of its largest entry");
            }
            furthest = std::max(furthest, off);
        }
    }
}

template <class T>
void check_type(const string& folder, const string& type, const Json& told) {
    const Json& kind = told["types"][type];
    Tensors tensors(folder + "/" + kind["file"].text);
    for (const auto& [name, tensor] : kind["tensors"].members)
        if (sha256(tensors.numbers(name)) != tensor["sha256"].text)
            fault(type + " " + name + ": not the numbers that its checksum is of");
    double furthest = 0;
    int cases = 0;
    for (const auto& [algorithm, unused] : told["algorithms"].members)
        for (const auto& [base, unused_too] : told["bases"].members) {
            check_case<T>(type, algorithm, base, told, tensors, furthest);
            ++cases;
        }
    std::printf("%s: %d cases; largest difference within the tolerance: %.1e\n", type.c_str(),
                cases, furthest);
}

void check_files(const string& folder) {
    string sums = read_file(folder + "/SHA256SUMS");
    for (string name : {"vectors.json", "float64.safetensors", "float32.safetensors"})
        if (sums.find("  " + name + "\n") == string::npos) fault("SHA256SUMS: has no " + name);
    for (size_t at = 0, end; at < sums.size(); at = end + 1) {
        end = std::min(sums.find('\n', at), sums.size());
        string line = sums.substr(at, end - at);
        string name = line.substr(std::min<size_t>(66, line.size()));
        if (sha256(read_file(folder + "/" + name)) + "  " + name != line)
            fault(name + ": not the bytes that SHA256SUMS is of");
    }
}

int main(int count, char** arguments) {
    string folder = count > 1 ? arguments[1] : ".";
    try {
        check_files(folder);
        Json told = parse(read_file(folder + "/vectors.json"));
        check_type<double>(folder, "float64", told);
        check_type<float>(folder, "float32", told);
    } catch (const std::exception& error) {
        fault(string("cannot go on: ") + error.what());
    }
    if (faults) std::printf("%d faults\n", faults);
    else std::printf("All steps of all cases agree.\n");
    return faults > 0;
}
