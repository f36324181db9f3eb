#include "simt/shared_memory.hpp"

#include <cstring>
#include <string>

#include "simt/fault.hpp"

namespace helix::simt {
namespace {

constexpr std::int64_t kWordBytes = 4;
constexpr int kPoison = 0xff;  // NaN in fp32, bf16 and e4m3

bool ordered(const Moment& before, const Moment& now) {
  return before.thread == Moment::kNobody || before.block_epoch < now.block_epoch ||
         before.thread == now.thread || (before.warp == now.warp && before.warp_epoch < now.warp_epoch);
}

std::string describe(const Moment& by) {
  return by.thread == Moment::kMany ? "several threads" : "thread " + std::to_string(by.thread);
}

[[noreturn]] void race(const char* what, const Moment& now, const char* other, const Moment& before,
                       std::int64_t word) {
  throw Fault("shared memory race: thread " + std::to_string(now.thread) + ' ' + what + " byte " +
              std::to_string(word * kWordBytes) + ", which " + describe(before) + ' ' + other +
              " with no barrier between them");
}

}  // namespace

void SharedMemory::begin_block(std::size_t bytes, int threads) {
  bytes_.assign(bytes, std::byte{kPoison});
  words_.assign((bytes + kWordBytes - 1) / kWordBytes, Word{});
  copies_.assign(static_cast<std::size_t>(threads), CopyQueue{});
}

void SharedMemory::check_range(const char* what, std::int64_t offset, std::size_t bytes,
                               const Moment& now) const {
  const auto fault = [&](const char* why) {
    throw Fault("shared memory: thread " + std::to_string(now.thread) + ' ' + what + ' ' +
                std::to_string(bytes) + " bytes at " + std::to_string(offset) + " of " +
                std::to_string(bytes_.size()) + why);
  };
  if (offset < 0 || static_cast<std::size_t>(offset) + bytes > bytes_.size()) fault(": out of bounds");
  if (static_cast<std::size_t>(offset) % bytes != 0) fault(": misaligned");
}

const std::byte* SharedMemory::read(std::int64_t offset, std::size_t bytes, const Moment& now) {
  check_range("reads", offset, bytes, now);
  const std::int64_t last = (offset + static_cast<std::int64_t>(bytes) - 1) / kWordBytes;
  for (std::int64_t w = offset / kWordBytes; w <= last; ++w) {
    Word& word = words_[static_cast<std::size_t>(w)];
    if (word.in_flight)
      throw Fault("shared memory: thread " + std::to_string(now.thread) + " reads byte " +
                  std::to_string(w * kWordBytes) + " while an asynchronous copy to it is in flight");
    if (!ordered(word.written, now)) race("reads", now, "wrote", word.written, w);
    Moment& readers = word.read;
    if (ordered(readers, now)) {
      readers = now;
    } else {
      readers.warp = readers.warp == now.warp ? now.warp : Moment::kMany;
      readers.thread = Moment::kMany;
      readers.warp_epoch = now.warp_epoch;  // this warp's, which only its own later barriers pass
    }
  }
  return bytes_.data() + offset;
}

void SharedMemory::check_write(std::int64_t offset, std::size_t bytes, const Moment& now) {
  check_range("writes", offset, bytes, now);
  const std::int64_t last = (offset + static_cast<std::int64_t>(bytes) - 1) / kWordBytes;
  for (std::int64_t w = offset / kWordBytes; w <= last; ++w) {
    Word& word = words_[static_cast<std::size_t>(w)];
    if (word.in_flight)
      throw Fault("shared memory: thread " + std::to_string(now.thread) + " writes byte " +
                  std::to_string(w * kWordBytes) + " while an asynchronous copy to it is in flight");
    if (!ordered(word.written, now)) race("writes", now, "wrote", word.written, w);
    if (!ordered(word.read, now)) race("writes", now, "read", word.read, w);
    word.written = now;
  }
}

std::byte* SharedMemory::write(std::int64_t offset, std::size_t bytes, const Moment& now) {
  check_write(offset, bytes, now);
  return bytes_.data() + offset;
}

void SharedMemory::copy_issue(std::int64_t to, const std::byte* from, std::size_t bytes, const Moment& now) {
  check_write(to, kCopyBytes, now);
  std::memset(bytes_.data() + to, kPoison, kCopyBytes);
  for (std::size_t w = 0; w < kCopyBytes / kWordBytes; ++w)
    words_[static_cast<std::size_t>(to) / kWordBytes + w].in_flight = true;
  copies_[static_cast<std::size_t>(now.thread)].open.push_back({to, from, bytes});
}

void SharedMemory::copy_commit(int thread) {
  CopyQueue& queue = copies_[static_cast<std::size_t>(thread)];
  queue.groups.push_back(std::move(queue.open));
  queue.open.clear();
}

void SharedMemory::copy_wait(int thread, std::size_t groups_in_flight, const Moment& now) {
  std::deque<std::vector<Copy>>& groups = copies_[static_cast<std::size_t>(thread)].groups;
  for (; groups.size() > groups_in_flight; groups.pop_front()) {
    for (const Copy& copy : groups.front()) {
      std::byte* const to = bytes_.data() + copy.to;
      std::memset(to, 0, kCopyBytes);
      if (copy.bytes > 0) std::memcpy(to, copy.from, copy.bytes);
      for (std::size_t w = 0; w < kCopyBytes / kWordBytes; ++w) {
        Word& word = words_[static_cast<std::size_t>(copy.to) / kWordBytes + w];
        word.in_flight = false;
        word.written = now;
      }
    }
  }
}

}  // namespace helix::simt
