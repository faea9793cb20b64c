// A load client for benchmarks: many connections to 127.0.0.1, each with one request after the other.
//
//   client PORT PATH MODE STREAM CONNECTIONS REQUESTS SECONDS RAMP_MS TOKENS RATE
//
//   MODE         app: post {"message", "stream"}; openai: post a Chat Completions body; rawget: get PATH
//   STREAM       1: expect a stream of TOKENS tokens and its closing event; 0: expect one plain answer
//   REQUESTS     on each connection; 0: go on for SECONDS
//   RAMP_MS      the time over which the connections are opened
//   TOKENS RATE  what the upstream is asked for, through the marker "#n=TOKENS,r=RATE#"
//
// The environment variable KEY is sent as a bearer token. One JSON line is printed: what came back right (ok) and
// wrong (err, e_*), and in µs the time to the first token (ttft_*), the time that every later token took from the
// upstream to here (dly_*) and the time of whole requests (lat_*). An answer is right if its status is 200 and, in a
// stream, every token came and then "event: done" or "[DONE]".
//
// One thread and one epoll set, so that on a small machine it costs little beside the server that is measured.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr int64_t kPatience = 60'000'000;  // µs after the expected end before what is still open is given up
constexpr size_t kTail = 1000;             // bytes of an answer's end that are kept, for the closing event

// The place of a number that makes every question another one, so that no cache answers it.
const std::string kNumber = "0000000000";

int64_t monotonic_us() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000LL + time.tv_nsec / 1000;
}

struct Options {
  int port;
  std::string path;
  std::string mode;
  bool stream;
  int connections;
  int requests;
  double seconds;
  int ramp_ms;
  int tokens;
  double rate;
};

Options read_options(char** argv) {
  return {atoi(argv[1]), argv[2],       argv[3],       atoi(argv[4]) != 0, atoi(argv[5]),
          atoi(argv[6]), atof(argv[7]), atoi(argv[8]), atoi(argv[9]),      atof(argv[10])};
}

std::string request_body(const Options& options) {
  char marker[60];
  snprintf(marker, sizeof marker, "#n=%d,r=%g# ", options.tokens, options.rate);
  std::string message =
      marker + kNumber + ": please explain in a few words how the quarterly plan is made and which tables it reads.";
  std::string stream = options.stream ? "true" : "false";
  if (options.mode == "app") return R"({"message":")" + message + R"(","stream":)" + stream + "}";
  return R"({"model":"bench","messages":[{"role":"user","content":")" + message + R"("}],"stream":)" + stream + "}";
}

std::string request_bytes(const Options& options) {
  bool get = options.mode == "rawget";
  std::string bytes = (get ? "GET " : "POST ") + options.path + " HTTP/1.1\r\n";
  bytes += "Host: 127.0.0.1:" + std::to_string(options.port) + "\r\nAccept: */*\r\n";
  if (const char* key = getenv("KEY")) bytes += std::string("Authorization: Bearer ") + key + "\r\n";
  if (get) return bytes + "\r\n";
  std::string body = request_body(options);
  bytes += "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n";
  return bytes + body;
}

// The head of an answer, as far as it tells where the body ends.
struct Head {
  int status = 0;
  bool chunked = false;
  bool closes = false;
  long length = -1;
};

Head read_head(const std::string& text) {
  Head head;
  sscanf(text.c_str(), "HTTP/1.%*d %d", &head.status);
  head.chunked = strcasestr(text.c_str(), "\r\ntransfer-encoding: chunked") != nullptr;
  head.closes = strcasestr(text.c_str(), "\r\nconnection: close") != nullptr || text.compare(0, 8, "HTTP/1.0") == 0;
  if (const char* length = strcasestr(text.c_str(), "\r\ncontent-length:")) head.length = atol(length + 17);
  return head;
}

// Takes the chunks of a chunked body apart.
class ChunkDecoder {
 public:
  // Gives the body's bytes to `take`; true: the last chunk has come.
  template <typename Take>
  bool feed(std::string_view bytes, Take take) {
    while (!bytes.empty()) {
      if (state_ == State::kContent) {
        size_t count = std::min(left_, bytes.size());
        take(bytes.substr(0, count));
        bytes.remove_prefix(count);
        left_ -= count;
        if (left_ == 0) state_ = State::kContentEnd;
        continue;
      }
      char next = bytes.front();
      bytes.remove_prefix(1);
      if (step(next)) return true;
    }
    return false;
  }

 private:
  enum class State { kSize, kContent, kContentEnd, kBodyEnd };

  bool step(char next) {
    if (state_ == State::kBodyEnd) return next == '\n';
    if (next == '\n') {
      bool size_is_known = state_ == State::kSize;
      state_ = !size_is_known ? State::kSize : left_ ? State::kContent : State::kBodyEnd;
    } else if (state_ == State::kSize && isxdigit(static_cast<unsigned char>(next))) {
      left_ = left_ * 16 + (isdigit(static_cast<unsigned char>(next)) ? next - '0' : (next | 32) - 'a' + 10);
    }
    return false;
  }

  State state_ = State::kSize;
  size_t left_ = 0;
};

// Finds the tokens "@<monotonic µs>" wherever the server cut the text.
class TokenScanner {
 public:
  // Calls `found` with the time at which the upstream sent the token.
  template <typename Found>
  void feed(std::string_view text, Found found) {
    for (size_t i = 0; i < text.size(); i++) {
      if (!inside_) {
        i = text.find('@', i);
        if (i == std::string_view::npos) return;
        inside_ = true;
        value_ = digits_ = 0;
      } else if (isdigit(static_cast<unsigned char>(text[i]))) {
        value_ = value_ * 10 + (text[i] - '0');
        digits_++;
      } else {
        inside_ = false;
        if (digits_ >= 7) found(value_);  // fewer digits are no time, but an @ in other text
      }
    }
  }

 private:
  bool inside_ = false;
  int64_t value_ = 0;
  int digits_ = 0;
};

// One request and what has come of its answer.
struct Exchange {
  int64_t started = 0;
  std::string head_text;
  bool in_body = false;
  Head head;
  long body_bytes = 0;
  ChunkDecoder chunks;
  TokenScanner scanner;
  int tokens = 0;
  std::string tail;
};

struct Connection {
  int fd = -1;
  bool connected = false;
  int done = 0;
  Exchange exchange;
};

// What the run has seen; times in µs.
struct Tally {
  long ok = 0, err = 0;
  long e_conn = 0, e_status = 0, e_tok = 0, e_trunc = 0, e_reset = 0;
  long tokens = 0, reads = 0;
  int open = 0, open_max = 0;
  int finished = 0;
  std::vector<int> first_token, delay, latency;
  std::string first_error;
};

class Client {
 public:
  explicit Client(const Options& options)
      : options_(options),
        request_(request_bytes(options)),
        number_at_(request_.find(kNumber)),
        connections_(options.connections) {}
  void run();
  void print();

 private:
  void open_due_connections();
  void on_event(int index, uint32_t events);
  void on_connected(int index, uint32_t events);
  void on_end(int index, bool clean);

  bool connect_socket(int index);
  void start_request(int index);
  void send_request(int index);
  void number_request();
  bool feed(int index, std::string_view bytes);
  bool feed_body(Exchange& exchange, std::string_view bytes);
  void take_body(Exchange& exchange, std::string_view bytes);
  void take_token(Exchange& exchange, int64_t sent);
  void judge(int index);
  void finish(int index, bool good, const char* what);
  void note_error(const Exchange& exchange, const char* what);

  Options options_;
  std::string request_;
  size_t number_at_;
  long number_ = monotonic_us() % 1'000'000'000;  // another run begins elsewhere
  std::vector<Connection> connections_;
  Tally tally_;
  int epoll_ = -1;
  int opened_ = 0;
  int64_t start_ = 0;
  int64_t now_ = 0;  // when the bytes in hand were read
  std::array<char, 262144> buffer_;
};

void Client::run() {
  epoll_ = epoll_create1(0);
  start_ = monotonic_us();
  double paced = options_.rate > 0 ? options_.tokens / options_.rate * options_.requests : 0;
  double expected = options_.requests ? paced : options_.seconds;
  int64_t give_up = start_ + options_.ramp_ms * 1000LL + static_cast<int64_t>(expected * 1e6) + kPatience;
  std::array<epoll_event, 1024> events;
  while (tally_.finished < options_.connections && monotonic_us() < give_up) {
    open_due_connections();
    int wait_ms = opened_ < options_.connections ? 1 : 200;
    int count = epoll_wait(epoll_, events.data(), events.size(), wait_ms);
    for (int i = 0; i < count; i++) {
      on_event(static_cast<int>(events[i].data.u32), events[i].events);
    }
  }
}

void Client::open_due_connections() {
  int64_t now = monotonic_us();
  while (opened_ < options_.connections &&
         now >= start_ + options_.ramp_ms * 1000LL * opened_ / options_.connections) {
    start_request(opened_++);
  }
}

bool Client::connect_socket(int index) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (fd < 0) return false;
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(options_.port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 && errno != EINPROGRESS) {
    close(fd);
    return false;
  }
  connections_[index].fd = fd;
  connections_[index].connected = false;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT;
  event.data.u32 = index;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
  return true;
}

void Client::start_request(int index) {
  Connection& connection = connections_[index];
  connection.exchange = Exchange{};
  connection.exchange.started = monotonic_us();
  tally_.open++;
  tally_.open_max = std::max(tally_.open_max, tally_.open);
  if (connection.fd >= 0) return send_request(index);
  if (!connect_socket(index)) {
    tally_.e_conn++;
    finish(index, false, "connect");
  }
}

void Client::send_request(int index) {
  number_request();
  ssize_t count = send(connections_[index].fd, request_.data(), request_.size(), MSG_NOSIGNAL);
  if (count == static_cast<ssize_t>(request_.size())) return;
  tally_.e_conn++;
  finish(index, false, "send");
}

void Client::number_request() {
  if (number_at_ == std::string::npos) return;
  std::string digits = std::to_string(++number_);
  request_.replace(number_at_ + kNumber.size() - digits.size(), digits.size(), digits);
}

void Client::on_event(int index, uint32_t events) {
  Connection& connection = connections_[index];
  if (connection.fd < 0) return;
  if (!connection.connected) return on_connected(index, events);
  ssize_t count = recv(connection.fd, buffer_.data(), buffer_.size(), 0);
  if (count < 0 && errno == EAGAIN) return;
  tally_.reads++;
  now_ = monotonic_us();
  if (count <= 0) return on_end(index, count == 0);
  if (feed(index, std::string_view(buffer_.data(), count))) judge(index);
}

void Client::on_connected(int index, uint32_t events) {
  Connection& connection = connections_[index];
  int error = 0;
  socklen_t size = sizeof error;
  getsockopt(connection.fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error || (events & EPOLLHUP)) {
    tally_.e_conn++;
    return finish(index, false, "connect");
  }
  connection.connected = true;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u32 = index;
  epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd, &event);
  send_request(index);
}

void Client::on_end(int index, bool clean) {
  Connection& connection = connections_[index];
  Exchange& exchange = connection.exchange;
  bool until_close = exchange.in_body && !exchange.head.chunked && exchange.head.length < 0;
  bool was_idle = exchange.head_text.empty() && connection.done > 0;
  exchange.head.closes = true;
  if (clean && until_close) return judge(index);
  if (clean && was_idle) {  // the server closed the kept connection while the request was under way: not its fault
    int64_t started = exchange.started;
    close(connection.fd);
    connection.fd = -1;
    tally_.open--;
    start_request(index);
    connection.exchange.started = started;
    return;
  }
  tally_.e_reset++;
  finish(index, false, clean ? "eof" : "reset");
}

// Takes what came of an answer; true: the answer is complete.
bool Client::feed(int index, std::string_view bytes) {
  Exchange& exchange = connections_[index].exchange;
  if (exchange.in_body) return feed_body(exchange, bytes);
  exchange.head_text.append(bytes);
  size_t end = exchange.head_text.find("\r\n\r\n");
  if (end == std::string::npos) return false;
  std::string rest = exchange.head_text.substr(end + 4);
  exchange.head_text.resize(end + 2);
  exchange.head = read_head(exchange.head_text);
  exchange.in_body = true;
  if (exchange.head.length == 0 && !exchange.head.chunked) return true;
  return feed_body(exchange, rest);
}

bool Client::feed_body(Exchange& exchange, std::string_view bytes) {
  auto take = [&](std::string_view part) { take_body(exchange, part); };
  if (exchange.head.chunked) return exchange.chunks.feed(bytes, take);
  take(bytes);
  return exchange.head.length >= 0 && exchange.body_bytes >= exchange.head.length;
}

void Client::take_body(Exchange& exchange, std::string_view bytes) {
  exchange.body_bytes += bytes.size();
  if (options_.stream) exchange.scanner.feed(bytes, [&](int64_t sent) { take_token(exchange, sent); });
  exchange.tail.append(bytes.substr(bytes.size() - std::min(bytes.size(), kTail)));
  if (exchange.tail.size() > 2 * kTail) exchange.tail.erase(0, exchange.tail.size() - kTail);
}

void Client::take_token(Exchange& exchange, int64_t sent) {
  bool first = exchange.tokens++ == 0;
  tally_.tokens++;
  if (first) {
    tally_.first_token.push_back(static_cast<int>(now_ - exchange.started));
  } else {
    tally_.delay.push_back(static_cast<int>(now_ - sent));
  }
}

void Client::judge(int index) {
  Exchange& exchange = connections_[index].exchange;
  bool closed = exchange.tail.find("[DONE]") != std::string::npos ||
                exchange.tail.find("event: done") != std::string::npos;
  if (exchange.head.status != 200) {
    tally_.e_status++;
    finish(index, false, "status");
  } else if (options_.stream && exchange.tokens != options_.tokens) {
    tally_.e_tok++;
    finish(index, false, "tokens");
  } else if (options_.stream && !closed) {
    tally_.e_trunc++;
    finish(index, false, "nodone");
  } else {
    finish(index, true, "");
  }
}

void Client::finish(int index, bool good, const char* what) {
  Connection& connection = connections_[index];
  int64_t now = monotonic_us();
  if (good) {
    tally_.ok++;
    tally_.latency.push_back(static_cast<int>(now - connection.exchange.started));
  } else {
    tally_.err++;
    note_error(connection.exchange, what);
  }
  tally_.open--;
  connection.done++;
  int64_t end = start_ + static_cast<int64_t>(options_.seconds * 1e6);
  bool more = options_.requests ? connection.done < options_.requests : now < end;
  bool keep = good && more && !connection.exchange.head.closes;
  if (!keep && connection.fd >= 0) {
    close(connection.fd);
    connection.fd = -1;
  }
  if (more) return start_request(index);
  tally_.finished++;
}

void Client::note_error(const Exchange& exchange, const char* what) {
  if (!tally_.first_error.empty()) return;
  tally_.first_error = std::string(what) + " status=" + std::to_string(exchange.head.status) +
                       " tok=" + std::to_string(exchange.tokens) + " tail=" + exchange.tail.substr(0, 160);
  for (char& letter : tally_.first_error) {  // it goes into a JSON string
    if (letter == '"' || letter == '\\' || static_cast<unsigned char>(letter) < 32) letter = ' ';
  }
}

int quantile(const std::vector<int>& sorted, double share) {
  return sorted.empty() ? -1 : sorted[static_cast<size_t>(share * (sorted.size() - 1))];
}

void Client::print() {
  double wall = (monotonic_us() - start_) / 1e6;
  for (auto* times : {&tally_.first_token, &tally_.delay, &tally_.latency}) std::sort(times->begin(), times->end());
  const std::vector<int>& ttft = tally_.first_token;
  const std::vector<int>& dly = tally_.delay;
  const std::vector<int>& lat = tally_.latency;
  printf(R"({"ok":%ld,"err":%ld,"unfinished":%d,)", tally_.ok, tally_.err, options_.connections - tally_.finished);
  printf(R"("e_conn":%ld,"e_status":%ld,"e_tok":%ld,)", tally_.e_conn, tally_.e_status, tally_.e_tok);
  printf(R"("e_trunc":%ld,"e_reset":%ld,)", tally_.e_trunc, tally_.e_reset);
  printf(R"("tokens":%ld,"reads":%ld,"wall":%.3f,)", tally_.tokens, tally_.reads, wall);
  printf(R"("open_max":%d,)", tally_.open_max);
  printf(R"("ttft_p50":%d,"ttft_p99":%d,)", quantile(ttft, 0.5), quantile(ttft, 0.99));
  printf(R"("ttft_min":%d,"ttft_max":%d,)", quantile(ttft, 0), quantile(ttft, 1));
  printf(R"("dly_p50":%d,"dly_p99":%d,"dly_max":%d,)", quantile(dly, 0.5), quantile(dly, 0.99), quantile(dly, 1));
  printf(R"("lat_p50":%d,"lat_p99":%d,)", quantile(lat, 0.5), quantile(lat, 0.99));
  printf("\"firsterr\":\"%s\"}\n", tally_.first_error.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 11) {
    fprintf(stderr, "usage: client PORT PATH MODE STREAM CONNECTIONS REQUESTS SECONDS RAMP_MS TOKENS RATE\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  Client client(read_options(argv));
  client.run();
  client.print();
}
