// Everything the page says, in its three languages. A key missing from one of them is a bug; the browser tests look.

const en = {
  skip: "Skip to the message field", openBots: "Show the bots", openPanel: "Show session and state", close: "Close",
  statusLabel: "The selected bot", language: "Language", refresh: "Refresh now",
  themeSystem: "Theme: like the system", themeLight: "Theme: light", themeDark: "Theme: dark",
  essentialOn: "Essential view: progress lines are hidden", essentialOff: "Full view: every progress line is shown",
  offline: "The messenger does not answer. Trying again…",
  bots: "Bots", addBot: "Add bot", adding: "Adding…", added: "{name} is here and starting up.", deleteBot: "Delete {name}",
  confirmDelete: "Delete the bot “{name}”? It stops at once.", deleted: "{name} is gone.", editTitle: "Edit {name}",
  noBots: "No bots yet", noBotsHint: "Add one: it starts at once and answers here.", selectForParallel: "Ask {name} too",
  online: "online", offlineStatus: "not reachable", checking: "checking", gone: "not in the list of bots", unread: "{n} new",
  parallelTitle: "Ask several at once", parallelField: "Message for several bots", parallelPlaceholder: "One question, several answers",
  parallelHint: "Tick at least two bots.", parallelReady: "{n} bots will be asked.", parallelSend: "Ask", parallelBusy: "Waiting…",
  parallelNeedTwo: "Tick at least two bots first.", parallelNeedText: "Write the question first.", parallelResults: "Results",
  sideBySide: "Side by side", pass: "answered", wait: "waiting", fail: "failed", failTimeout: "no answer within 60 s", failError: "the run ended with an error", failSend: "could not be sent", openChat: "Open this chat",
  timeline: "Conversation", clear: "Clear", confirmClear: "Clear this conversation? Its messages and files are deleted.", cleared: "Cleared.",
  jump: "To the newest message", jumpCount: "{n} new", dropHere: "Drop the file to attach it",
  emptyTitle: "Say hello to {name}", emptyHint: "Write below, or begin with one of these.", starterStory: "Tell me a story", starterHello: "Hello!",
  loading: "Loading the conversation…", loadFailed: "The conversation could not be loaded.", retry: "Try again", earlier: "Show earlier messages",
  thinking: "Thinking…", writing: "{name} is writing", you: "You", times: "×{n}", sending: "sending",
  editing: "Editing your message", cancelEdit: "Stop editing", editMessage: "Edit this message", removeFile: "Remove the file",
  commands: "Commands", attach: "Attach a file", messageField: "Message", messagePlaceholder: "Message, or / for commands", send: "Send",
  copy: "Copy", copied: "Copied", showMore: "Show more", showLess: "Show less", spoiler: "Hidden text, press to show",
  download: "Download", enlarge: "Enlarge", imageAlt: "Image {name}", pageFrame: "Preview of {name}", sandboxed: "Shown without scripts", video: "YouTube video", openVideo: "Open on YouTube",
  panel: "Session and state", session: "Session", state: "State", toggleSession: "Fold the session section", toggleState: "Fold the state section", quickActions: "Quick actions",
  token: "Bot token", chatId: "Chat", userId: "User", webhook: "Webhook", polling: "polling",
  webhookHint: "With an address set, updates are posted there; without one the bot fetches them.", webhookUrl: "Address", webhookSecret: "Secret header", setWebhook: "Set", deleteWebhook: "Remove", webhookSet: "The webhook is set.", webhookDeleted: "The webhook is removed.", webhookFailed: "The webhook did not take the update: {error}",
  rateLimit: "Rate limit", rateHint: "The next calls of a method are answered with 429, as Telegram does when a bot is too fast.", method: "Method", rateCount: "Calls", rateRetry: "Retry after, s", apply: "Apply", rateSet: "The next {n} calls of {method} are refused.",
  faults: "Faults", faultHint: "Let calls go wrong on purpose and watch the bot recover.", faultMode: "What happens", clearFaults: "Remove all", faultSet: "Set: {mode} for {n} calls of {method}.", faultsCleared: "All faults are removed.",
  fault_drop_before: "lost on the way there", fault_apply_then_drop: "done, answer lost", fault_status: "server error 500", fault_delay: "slow answer", fault_rst: "connection cut", fault_garbage: "unreadable answer", fault_429: "too many requests",
  agentJson: "Session as JSON", diagnosticsJson: "Diagnostics as JSON", stateJson: "Messenger as JSON", threadsJson: "Chats as JSON",
  health: "Health", latency: "{n} ms", agent: "Engine", sessionId: "Session", thread: "Thread", run: "Run", summary: "Summary", inFlight: "Running now", heartbeat: "Heartbeats", delivery: "Delivery", lastError: "Last error", none: "none", unsaid: "not said here (/status, /model)", model: "Model",
  run_idle: "idle", run_queued: "queued", run_running: "running", run_completed: "done", run_error: "failed",
  tag_binary_missing: "The program of this engine is not installed. Install it, or choose another engine with /mode.", tag_active_run: "A run is still going on. Send /stop, then try again.", tag_parse_error: "The engine said something unreadable. Trying again often helps.", tag_delivery_error: "A message could not be delivered. See the rate limits and faults above.", tag_timeout: "The engine took too long. Send /stop, or ask for less.", tag_unknown: "Something went wrong in the last run. The conversation tells more.",
  editBot: "Edit this conversation", label: "Name on this page", botId: "Bot", cancel: "Cancel", save: "Save", ok: "OK", badNumber: "Chat and user must be whole numbers.",
  failed: "That did not work: {error}", notSent: "Not sent: {error}", noServer: "no connection", tooLarge: "The file is larger than {n} MB.", pressed: "Pressed.", today: "Today", yesterday: "Yesterday", bytes: "{n} B", kib: "{n} KB", mib: "{n} MB",
};

const ko = {
  skip: "메시지 입력란으로 건너뛰기", openBots: "봇 목록 열기", openPanel: "세션과 상태 열기", close: "닫기",
  statusLabel: "선택한 봇", language: "언어", refresh: "지금 새로 고침",
  themeSystem: "테마: 시스템 설정", themeLight: "테마: 밝게", themeDark: "테마: 어둡게",
  essentialOn: "핵심 보기: 진행 줄을 숨깁니다", essentialOff: "전체 보기: 모든 진행 줄을 보여 줍니다",
  offline: "메신저 서버가 응답하지 않습니다. 다시 시도하는 중…",
  bots: "봇", addBot: "봇 추가", adding: "추가 중…", added: "{name} 봇이 추가되어 시작되고 있습니다.", deleteBot: "{name} 삭제",
  confirmDelete: "“{name}” 봇을 삭제할까요? 바로 멈춥니다.", deleted: "{name} 봇을 삭제했습니다.", editTitle: "{name} 편집",
  noBots: "아직 봇이 없습니다", noBotsHint: "하나 추가하면 바로 시작되어 여기서 대답합니다.", selectForParallel: "{name}에게도 묻기",
  online: "온라인", offlineStatus: "연결 안 됨", checking: "확인 중", gone: "봇 목록에 없음", unread: "새 메시지 {n}개",
  parallelTitle: "여러 봇에게 한꺼번에", parallelField: "여러 봇에게 보낼 메시지", parallelPlaceholder: "질문 하나, 여러 대답",
  parallelHint: "봇을 두 개 이상 선택하세요.", parallelReady: "봇 {n}개에게 묻습니다.", parallelSend: "묻기", parallelBusy: "기다리는 중…",
  parallelNeedTwo: "먼저 봇을 두 개 이상 선택하세요.", parallelNeedText: "먼저 질문을 쓰세요.", parallelResults: "결과",
  sideBySide: "나란히 보기", pass: "대답함", wait: "대기 중", fail: "실패", failTimeout: "60초 안에 대답이 없음", failError: "실행이 오류로 끝남", failSend: "보내지 못함", openChat: "이 대화 열기",
  timeline: "대화", clear: "비우기", confirmClear: "이 대화를 비울까요? 메시지와 파일이 삭제됩니다.", cleared: "비웠습니다.",
  jump: "최신 메시지로", jumpCount: "새 메시지 {n}개", dropHere: "파일을 놓으면 첨부됩니다",
  emptyTitle: "{name}에게 인사해 보세요", emptyHint: "아래에 쓰거나, 이 중 하나로 시작하세요.", starterStory: "이야기 하나 들려줘", starterHello: "안녕하세요!",
  loading: "대화를 불러오는 중…", loadFailed: "대화를 불러오지 못했습니다.", retry: "다시 시도", earlier: "이전 메시지 보기",
  thinking: "생각하는 중…", writing: "{name} 입력 중", you: "나", times: "×{n}", sending: "보내는 중",
  editing: "메시지 수정 중", cancelEdit: "수정 그만두기", editMessage: "이 메시지 수정", removeFile: "파일 빼기",
  commands: "명령어", attach: "파일 첨부", messageField: "메시지", messagePlaceholder: "메시지, 또는 / 로 명령어", send: "보내기",
  copy: "복사", copied: "복사됨", showMore: "더 보기", showLess: "접기", spoiler: "숨긴 글, 누르면 보입니다",
  download: "내려받기", enlarge: "크게 보기", imageAlt: "이미지 {name}", pageFrame: "{name} 미리 보기", sandboxed: "스크립트 없이 표시", video: "YouTube 동영상", openVideo: "YouTube에서 열기",
  panel: "세션과 상태", session: "세션", state: "상태", toggleSession: "세션 영역 접기", toggleState: "상태 영역 접기", quickActions: "빠른 명령",
  token: "봇 토큰", chatId: "대화방", userId: "사용자", webhook: "웹훅", polling: "폴링",
  webhookHint: "주소를 정하면 업데이트를 그곳으로 보내고, 없으면 봇이 가져갑니다.", webhookUrl: "주소", webhookSecret: "비밀 헤더", setWebhook: "설정", deleteWebhook: "해제", webhookSet: "웹훅을 설정했습니다.", webhookDeleted: "웹훅을 해제했습니다.", webhookFailed: "웹훅이 업데이트를 받지 못했습니다: {error}",
  rateLimit: "속도 제한", rateHint: "다음 호출들에 429로 답합니다. 봇이 너무 빠를 때 Telegram이 하는 대로입니다.", method: "메서드", rateCount: "호출 수", rateRetry: "대기(초)", apply: "적용", rateSet: "다음 {method} 호출 {n}개를 거절합니다.",
  faults: "장애", faultHint: "일부러 호출을 망가뜨리고 봇이 회복하는지 봅니다.", faultMode: "무슨 일이", clearFaults: "모두 해제", faultSet: "설정됨: {method} 호출 {n}개에 {mode}.", faultsCleared: "장애를 모두 해제했습니다.",
  fault_drop_before: "가는 길에 사라짐", fault_apply_then_drop: "처리됐지만 응답 사라짐", fault_status: "서버 오류 500", fault_delay: "느린 응답", fault_rst: "연결 끊김", fault_garbage: "읽을 수 없는 응답", fault_429: "요청이 너무 많음",
  agentJson: "세션 JSON", diagnosticsJson: "진단 JSON", stateJson: "메신저 JSON", threadsJson: "대화방 JSON",
  health: "연결", latency: "{n} ms", agent: "엔진", sessionId: "세션", thread: "스레드", run: "실행", summary: "요약", inFlight: "실행 중", heartbeat: "하트비트", delivery: "전달 방식", lastError: "최근 오류", none: "없음", unsaid: "아직 말하지 않음 (/status, /model)", model: "모델",
  run_idle: "쉬는 중", run_queued: "대기열", run_running: "실행 중", run_completed: "완료", run_error: "실패",
  tag_binary_missing: "이 엔진의 프로그램이 설치되어 있지 않습니다. 설치하거나 /mode 로 다른 엔진을 고르세요.", tag_active_run: "아직 실행 중입니다. /stop 을 보낸 뒤 다시 시도하세요.", tag_parse_error: "엔진의 응답을 읽을 수 없었습니다. 다시 시도하면 되는 때가 많습니다.", tag_delivery_error: "메시지를 전달하지 못했습니다. 위의 속도 제한과 장애를 확인하세요.", tag_timeout: "엔진이 너무 오래 걸렸습니다. /stop 을 보내거나 더 짧게 물어보세요.", tag_unknown: "지난 실행에 문제가 있었습니다. 대화를 확인하세요.",
  editBot: "대화 편집", label: "이 화면에서의 이름", botId: "봇", cancel: "취소", save: "저장", ok: "확인", badNumber: "대화방과 사용자는 정수여야 합니다.",
  failed: "실패했습니다: {error}", notSent: "보내지 못했습니다: {error}", noServer: "연결 없음", tooLarge: "파일이 {n} MB보다 큽니다.", pressed: "눌렀습니다.", today: "오늘", yesterday: "어제", bytes: "{n} B", kib: "{n} KB", mib: "{n} MB",
};

const ru = {
  skip: "К полю сообщения", openBots: "Показать ботов", openPanel: "Показать сеанс и состояние", close: "Закрыть",
  statusLabel: "Выбранный бот", language: "Язык", refresh: "Обновить сейчас",
  themeSystem: "Тема: как в системе", themeLight: "Тема: светлая", themeDark: "Тема: тёмная",
  essentialOn: "Только главное: строки о ходе работы скрыты", essentialOff: "Всё подряд: видны все строки о ходе работы",
  offline: "Мессенджер не отвечает. Пробуем снова…",
  bots: "Боты", addBot: "Добавить", adding: "Добавляем…", added: "{name} добавлен и запускается.", deleteBot: "Удалить {name}",
  confirmDelete: "Удалить бота «{name}»? Он сразу остановится.", deleted: "Бот {name} удалён.", editTitle: "Изменить {name}",
  noBots: "Пока нет ботов", noBotsHint: "Добавьте бота: он сразу запустится и ответит здесь.", selectForParallel: "Спросить и {name}",
  online: "на связи", offlineStatus: "недоступен", checking: "проверяем", gone: "нет в списке ботов", unread: "новых: {n}",
  parallelTitle: "Спросить сразу нескольких", parallelField: "Сообщение нескольким ботам", parallelPlaceholder: "Один вопрос, несколько ответов",
  parallelHint: "Отметьте хотя бы двух ботов.", parallelReady: "Будет спрошено ботов: {n}.", parallelSend: "Спросить", parallelBusy: "Ждём…",
  parallelNeedTwo: "Сначала отметьте хотя бы двух ботов.", parallelNeedText: "Сначала напишите вопрос.", parallelResults: "Результаты",
  sideBySide: "Рядом", pass: "ответил", wait: "ждём", fail: "не вышло", failTimeout: "нет ответа за 60 с", failError: "работа закончилась ошибкой", failSend: "не удалось отправить", openChat: "Открыть этот чат",
  timeline: "Беседа", clear: "Очистить", confirmClear: "Очистить беседу? Сообщения и файлы будут удалены.", cleared: "Очищено.",
  jump: "К последнему сообщению", jumpCount: "новых: {n}", dropHere: "Отпустите файл, чтобы прикрепить",
  emptyTitle: "Поздоровайтесь: {name}", emptyHint: "Напишите внизу или начните с этого.", starterStory: "Расскажи историю", starterHello: "Привет!",
  loading: "Загружаем беседу…", loadFailed: "Не удалось загрузить беседу.", retry: "Ещё раз", earlier: "Показать более ранние",
  thinking: "Думает…", writing: "{name} пишет", you: "Вы", times: "×{n}", sending: "отправляется",
  editing: "Правка вашего сообщения", cancelEdit: "Прекратить правку", editMessage: "Изменить это сообщение", removeFile: "Убрать файл",
  commands: "Команды", attach: "Прикрепить файл", messageField: "Сообщение", messagePlaceholder: "Сообщение или /команда", send: "Отправить",
  copy: "Копировать", copied: "Скопировано", showMore: "Показать больше", showLess: "Свернуть", spoiler: "Скрытый текст, нажмите, чтобы показать",
  download: "Скачать", enlarge: "Увеличить", imageAlt: "Изображение {name}", pageFrame: "Просмотр {name}", sandboxed: "Показано без скриптов", video: "Видео YouTube", openVideo: "Открыть на YouTube",
  panel: "Сеанс и состояние", session: "Сеанс", state: "Состояние", toggleSession: "Свернуть раздел сеанса", toggleState: "Свернуть раздел состояния", quickActions: "Быстрые команды",
  token: "Токен бота", chatId: "Чат", userId: "Пользователь", webhook: "Вебхук", polling: "опрос",
  webhookHint: "Если адрес задан, обновления отправляются туда; иначе бот забирает их сам.", webhookUrl: "Адрес", webhookSecret: "Секретный заголовок", setWebhook: "Задать", deleteWebhook: "Убрать", webhookSet: "Вебхук задан.", webhookDeleted: "Вебхук убран.", webhookFailed: "Вебхук не принял обновление: {error}",
  rateLimit: "Ограничение частоты", rateHint: "Следующие вызовы метода получат 429, как у Telegram, когда бот слишком спешит.", method: "Метод", rateCount: "Вызовов", rateRetry: "Пауза, с", apply: "Применить", rateSet: "Следующие вызовы {method} ({n}) будут отклонены.",
  faults: "Сбои", faultHint: "Нарочно испортить вызовы и посмотреть, как бот справится.", faultMode: "Что случится", clearFaults: "Убрать все", faultSet: "Задано: {mode}, {method}, вызовов: {n}.", faultsCleared: "Все сбои убраны.",
  fault_drop_before: "теряется по пути", fault_apply_then_drop: "сделано, ответ потерян", fault_status: "ошибка сервера 500", fault_delay: "медленный ответ", fault_rst: "обрыв соединения", fault_garbage: "нечитаемый ответ", fault_429: "слишком много запросов",
  agentJson: "Сеанс в JSON", diagnosticsJson: "Диагностика в JSON", stateJson: "Мессенджер в JSON", threadsJson: "Чаты в JSON",
  health: "Связь", latency: "{n} мс", agent: "Движок", sessionId: "Сеанс", thread: "Нить", run: "Работа", summary: "Сводка", inFlight: "Сейчас работает", heartbeat: "Пульс", delivery: "Доставка", lastError: "Последняя ошибка", none: "нет", unsaid: "здесь не сказано (/status, /model)", model: "Модель",
  run_idle: "свободен", run_queued: "в очереди", run_running: "работает", run_completed: "готово", run_error: "ошибка",
  tag_binary_missing: "Программа этого движка не установлена. Установите её или выберите другой движок: /mode.", tag_active_run: "Прошлая работа ещё идёт. Отправьте /stop и попробуйте снова.", tag_parse_error: "Движок ответил непонятно. Часто помогает повторить.", tag_delivery_error: "Сообщение не доставлено. Посмотрите ограничения и сбои выше.", tag_timeout: "Движок думал слишком долго. Отправьте /stop или спросите короче.", tag_unknown: "В последней работе что-то пошло не так. Подробности в беседе.",
  editBot: "Изменить беседу", label: "Имя на этой странице", botId: "Бот", cancel: "Отмена", save: "Сохранить", ok: "Хорошо", badNumber: "Чат и пользователь должны быть целыми числами.",
  failed: "Не получилось: {error}", notSent: "Не отправлено: {error}", noServer: "нет связи", tooLarge: "Файл больше {n} МБ.", pressed: "Нажато.", today: "Сегодня", yesterday: "Вчера", bytes: "{n} Б", kib: "{n} КБ", mib: "{n} МБ",
};

const LANGUAGES = { en, ko, ru };
const STORAGE_KEY = "mock_messenger_language";

let code = choose();

/** The language in use: "en", "ko" or "ru". */
export const language = () => code;

/** Says a key in the reader's language, with `{holes}` filled. */
export function t(key, holes) {
  const words = LANGUAGES[code][key] ?? key;
  return holes ? words.replace(/\{(\w+)\}/g, (whole, name) => (name in holes ? String(holes[name]) : whole)) : words;
}

/** Whether there is such a word at all; the server may send codes that are newer than this page. */
export const hasWord = (key) => Object.hasOwn(en, key);

export function setLanguage(next) {
  if (!Object.hasOwn(LANGUAGES, next)) return;
  code = next;
  try {
    localStorage.setItem(STORAGE_KEY, next);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}

/** Puts the words of the current language into every element that asks for some. */
export function translatePage(root = document) {
  document.documentElement.lang = code;
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-placeholder]")) element.placeholder = t(element.dataset.tPlaceholder);
  for (const element of root.querySelectorAll("[data-t-aria]")) element.setAttribute("aria-label", t(element.dataset.tAria));
  for (const element of root.querySelectorAll("[data-t-label]")) nameControl(element, t(element.dataset.tLabel));
}

/** Names a control that shows only an icon, to listeners and to whoever points at it. */
export function nameControl(element, name) {
  if (element.title === name) return;
  element.title = name;
  element.setAttribute("aria-label", name);
}

/** The twelve commands: name, whether words usually follow, and per language a title and a description. */
const COMMANDS = [
  ["/start", false, ["Start", "Wake the bot and see how it works"], ["시작", "봇을 깨우고 쓰는 법을 봅니다"], ["Начать", "Разбудить бота и узнать, как он работает"]],
  ["/help", false, ["Help", "List what the bot can do"], ["도움말", "봇이 할 수 있는 일을 봅니다"], ["Помощь", "Что умеет бот"]],
  ["/new", false, ["New session", "Begin afresh with the same engine"], ["새 세션", "같은 엔진으로 새로 시작합니다"], ["Новый сеанс", "Начать заново с тем же движком"]],
  ["/status", false, ["Status", "Engine, model, session and summary"], ["상태", "엔진, 모델, 세션, 요약을 봅니다"], ["Состояние", "Движок, модель, сеанс и сводка"]],
  ["/reset", false, ["Reset", "Forget the session and its summary"], ["초기화", "세션과 요약을 지웁니다"], ["Сброс", "Забыть сеанс и его сводку"]],
  ["/summary", false, ["Summary", "What has been said so far"], ["요약", "지금까지의 대화를 요약해 봅니다"], ["Сводка", "О чём шла речь"]],
  ["/mode", true, ["Engine", "Switch to another engine"], ["엔진 전환", "다른 엔진으로 바꿉니다"], ["Движок", "Перейти на другой движок"]],
  ["/providers", false, ["Providers", "Which engines are installed"], ["제공자", "설치된 엔진을 봅니다"], ["Поставщики", "Какие движки установлены"]],
  ["/stop", false, ["Stop", "Stop the answer being written"], ["중지", "진행 중인 대답을 멈춥니다"], ["Стоп", "Остановить текущий ответ"]],
  ["/youtube", true, ["YouTube", "Find a video"], ["YouTube", "동영상을 찾습니다"], ["YouTube", "Найти видео"]],
  ["/yt", true, ["YouTube, short", "Find a video, with less typing"], ["YouTube 짧게", "짧은 명령으로 동영상을 찾습니다"], ["YouTube, кратко", "Найти видео, но быстрее"]],
  ["/echo", true, ["Echo", "Hear your own words back"], ["따라 말하기", "쓴 말을 그대로 돌려줍니다"], ["Эхо", "Услышать свои слова в ответ"]],
];

/** The commands whose name begins with `prefix`, in the reader's language. */
export function listCommands(prefix) {
  const column = { en: 2, ko: 3, ru: 4 }[code];
  return COMMANDS.filter(([name]) => name.startsWith(prefix.toLowerCase())).map((row) => ({
    name: row[0], takesWords: row[1], title: row[column][0], description: row[column][1],
  }));
}

/** Every language has exactly the same keys; used by the tests of the page. */
export const listKeys = () => Object.fromEntries(Object.entries(LANGUAGES).map(([name, words]) => [name, Object.keys(words)]));

function choose() {
  let stored = null;
  try {
    stored = localStorage.getItem(STORAGE_KEY);
  } catch {
    // Fall through to what the browser prefers.
  }
  const wanted = [stored, ...(navigator.languages ?? [navigator.language])].filter(Boolean).map((tag) => tag.slice(0, 2).toLowerCase());
  return wanted.find((tag) => Object.hasOwn(LANGUAGES, tag)) ?? "en";
}
